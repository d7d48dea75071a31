"""Files that a user may write: networks and studies, each with what is wrong with it."""

_HEAD = """\
import sys

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn


class Net(nn.Module):
    num_classes: int = 10

    @nn.compact
    def __call__(self, images, *, train):
"""
_CONV = "x = nn.Conv(4, (3, 3), strides=4)(images)"  # line 14
_DENSE = "return nn.Dense(self.num_classes)(x.reshape(x.shape[0], -1))"


def network(*lines: str, last: str = _DENSE) -> str:
    """A file with class Net: a convolution in line 14, then `lines`, then `last`."""
    return _HEAD + "".join(f"        {line}\n" for line in (_CONV, *lines, last))


def of_class(*lines: str) -> str:
    """A network with `lines` among its class's, from line 10."""
    return network().replace(
        "    num_classes", "".join(f"    {x}\n" for x in lines) + "    num_classes"
    )


GOOD = network()
_SUPER = "super().__post_init__()"

# What is refused before anything is computed: by name the file, and what the one line says.
BROKEN = {
    # Random numbers, state and modes.
    "drop_path": (
        network('x = nn.Dropout(0.1, rng_collection="drop_path", deterministic=not train)(x)'),
        ('(net.py, line 15)', 'there is rng_collection="dropout"'),
    ),
    "dropout_on": (
        network("x = nn.Dropout(0.1, deterministic=False)(x)"),
        ("(net.py, line 15)", "draws random numbers where train=False", "deterministic=not train"),
    ),
    "dropout_open": (network("x = nn.Dropout(0.1)(x)"), ("net.py, line 15", "deterministic")),
    "make_rng": (
        network('x = x + jax.random.normal(self.make_rng("noise"), x.shape)'),
        ("(net.py, line 15)", "draws random numbers where train=False"),
    ),
    "norm_on": (
        network("x = nn.BatchNorm(use_running_average=False)(x)"),
        ("(net.py, line 15)", "use_running_average=not train"),
    ),
    "norm_open": (network("x = nn.BatchNorm()(x)"), ("net.py, line 15", "use_running_average")),
    "state_in_eval": (
        network('s = self.variable("cache", "n", lambda: jnp.zeros(()))', "s.value = s.value + 1"),
        ("(net.py, line 16)", "changes variables where train=False"),
    ),
    "sow_losses": (
        network('self.sow("losses", "l2", jnp.sum(x**2))'),
        ('its collection "losses"', 'sown into "auxiliary"'),
    ),
    "state_of_images": (
        network('self.variable("mine", "n", lambda: x.mean())'),
        ('its collection "mine"', "depends on the images"),
    ),
    "numpy_random": (
        network("x = x + np.random.rand()"),
        ("something else each time", 'self.make_rng("dropout")'),
    ),
    "numpy_random_shape": (
        network("x = x * np.random.rand(*x.shape)"), ("something else each time",)
    ),
    "python_random": (
        network("import random", "x = x * random.random()"), ("something else each time",)
    ),
    "numpy_init": (
        network("x = x + self.param('w', lambda key: jnp.float32(np.random.rand()))"),
        ("something else each time",),
    ),
    "the_time": (
        network("import time", "x = x * (time.perf_counter() % 1)"), ("something else each time",)
    ),
    # Logits.
    "logits_more": (network(last="return nn.Dense(11)(x.reshape(x.shape[0], -1))"),
                    ("gives float32[1, 11]", "float32[1, 10] is needed for 10 classes")),
    "logits_fewer": (network(last="return nn.Dense(9)(x.reshape(x.shape[0], -1))"),
                     ("gives float32[1, 9]",)),
    "logits_map": (network(last="return x"), ("gives float32[1, 2, 2, 4]",)),
    "logits_bfloat16": (
        network(last="return nn.Dense(10, dtype=jnp.bfloat16)(x.reshape(x.shape[0], -1))"),
        ("gives bfloat16[1, 10]",),
    ),
    "logits_int": (network(last="return x.argmax(-1)"), ("gives int32[1, 2, 2]",)),
    "logits_tuple": (network(last="return x, x"), ("gives tuple for 1 image",)),
    "logits_list": (network(last="return [x]"), ("gives list",)),
    "logits_dict": (network(last='return {"logits": x}'), ("gives dict",)),
    "logits_none": (network(last="return None"), ("gives NoneType",)),
    "logits_float": (network(last="return 1.5"), ("gives float",)),
    "logits_word": (network(last="return 'cat'"), ("gives str",)),
    "logits_generator": (network(last="yield x"), ("gives generator",)),
    # Its own errors.
    "raises": (network('raise RuntimeError("my own words")'), ("net.py, line 15", "my own words")),
    "raises_lines": (network(r'raise ValueError("a\nb\n\nc")'), ("line 15: ValueError: a b c",)),
    "asserts": (network("assert x.shape[1] == 77"), ("line 15", "(assert x.shape[1] == 77)")),
    "raises_nothing": (network("raise NotImplementedError"), ("line 15: NotImplementedError",)),
    "raises_deep": (
        network("nn.Sequential([lambda x: x @ jnp.ones((9, 9))])(x)"), ("net.py, line 15",)
    ),
    "raises_base": (
        network("class Mine(BaseException): pass", 'raise Mine("odd")'), ("line 16: Mine: odd",)
    ),
    "raises_unsayable": (
        network("class E(Exception):", "    def __str__(self): return 1 / 0", "raise E()"),
        ("net.py, line 17: E (raise E())",),
    ),
    "raises_stop": (network("raise StopIteration"), ("line 15: StopIteration",)),
    "raises_os": (network('open("no/where")'), ("line 15: FileNotFoundError", "no/where")),
    "raises_pipe": (network("raise BrokenPipeError"), ("line 15: BrokenPipeError",)),
    "raises_end": (network("raise EOFError"), ("line 15: EOFError",)),
    "raises_memory": (network("raise MemoryError"), ("line 15: MemoryError",)),
    "raises_refused": (
        network("from cnnjax import Refused", 'raise Refused("not mine")'), ("line 16: not mine",)
    ),
    "raises_click": (
        network("import click", 'raise click.UsageError("not mine")'), ("line 16", "not mine")
    ),
    "exits": (network("sys.exit(0)"), ("net.py, line 15: it ends the program (sys.exit(0))",)),
    "exits_with_words": (network('sys.exit("bye")'), ("line 15", "sys.exit('bye')")),
    "exits_in_training": (network("if train:", "    sys.exit(3)"), ("line 16", "sys.exit(3)")),
    "raises_in_training": (
        network("if train:", '    raise RuntimeError("mine")'),
        ("cannot be trained", "net.py, line 16", "mine"),
    ),
    "recursion": (network("return self(images, train=train)"), (": RecursionError",)),
    # What jax and flax do not take.
    "bool_of_tracer": (network("if x.sum() > 0: x = -x"), ("line 15: TracerBoolConversion",)),
    "float_of_tracer": (network("x = x * float(x.sum())"), ("line 15: Concretization",)),
    "numpy_of_tracer": (network("x = np.asarray(x)"), ("line 15: TracerArrayConversion",)),
    "sets_attribute": (network("self.y = x"), ("line 15: SetAttributeFrozenModuleError",)),
    "name_twice": (
        network('nn.Dense(3, name="a")(x)', 'nn.Dense(3, name="a")(x)'), ("line 16", '"a"')
    ),
    "negative_features": (network("x = nn.Dense(-1)(x)"), ("net.py, line 15",)),
    "half_features": (network("x = nn.Dense(2.5)(x)"), ("net.py, line 15",)),
    "too_large": (network("x = nn.Dense(10**12)(x)"), ("GiB for its parameters", "this machine")),
    "shapes_differ": (network("x = jnp.concatenate([x, jnp.zeros(3)])"), ("net.py, line 15",)),
    "other_in_training": (
        network("if train:", "    x = nn.Dense(7)(x)"), ("cannot be trained", "net.py, line ")
    ),
    "fixed_batch": (network("x = x.reshape(1, -1)"), ("cannot be trained", "net.py, line 16")),
    "state_grows": (
        network('s = self.variable("cache", "n", lambda: jnp.zeros(()))',
                "if train: s.value = jnp.zeros(2)"),
        ('its collection "cache" has another form',),
    ),
    "no_gradient": (
        network("x = jax.lax.while_loop(lambda c: c.sum() > 1, lambda c: c / 2, x)"),
        ("cannot be trained", "net.py, line ", "Reverse-mode"),
    ),
    "wrong_gradient": (
        network("f = jax.custom_vjp(lambda x: x)",
                "f.defvjp(lambda x: (x, None), lambda residual, g: 1 / 0)", "x = f(x)"),
        ("cannot be trained", "net.py, line 16: ZeroDivisionError"),
    ),
    "whole_number_parameter": (
        network("x = x + self.param('n', lambda key: jnp.zeros((), jnp.int32))"),
        ("parameter n is int32",),
    ),
    "nothing_to_train": (
        network(last="return jnp.zeros((images.shape[0], 10))").replace(_CONV, "pass"),
        ("has no parameters",),
    ),
    "auxiliary_map": (
        network('self.sow("auxiliary", "a", x)'), ("gives float32[2, 2, 2, 4] for 2 images",)
    ),
    "single_values": (
        network("x = nn.Dense(8)(x.mean((1, 2)))", "x = nn.GroupNorm(num_groups=8)(x)"),
        ("normalises one value at a time",),
    ),
    # The class.
    "no_train": (
        network().replace("*, train", "").replace("images, )", "images)"),
        ("unexpected keyword argument 'train'", "def __call__(self, images, *, train)"),
    ),
    "one_more_argument": (network().replace("*, train", "labels, *, train"), ("'labels'",)),
    "no_call": (network().replace("def __call__", "def apply_it"), ("has no method __call__",)),
    "no_default": (of_class("width: int"), ("has no default for width", "--set model.width=")),
    "unknown_type": (of_class("act: 'Mystery' = None"), ("the types of", "'Mystery'")),
    "made_exits": (
        of_class("def __post_init__(self): sys.exit(0)"), ("net.py, line 10", "sys.exit(0)")
    ),
    "made_raises": (
        of_class("def __post_init__(self):", f"    {_SUPER}", '    raise ValueError("mine")'),
        ("cannot be made", "net.py, line 12: ValueError: mine"),
    ),
    # The file.
    "import_exits": ("import sys\nsys.exit(0)\n", ("does not import", "net.py, line 2", "exit(0)")),
    "import_raises": ("x = 1\ny = x / 0\n", ("net.py, line 2: ZeroDivisionError",)),
    "import_missing": ("import nothing_like_this\n", ("line 1", "nothing_like_this")),
    "import_wrong_name": ("from flax import linenn\n", ("net.py, line 1", "linenn")),
    "syntax": ("class Net(:\n", ("SyntaxError: invalid syntax (net.py, line 1)",)),
    "string": ("x = 'abc\n", ("SyntaxError", "(net.py, line 1)")),
    "indentation": ("  x = 1\n", ("IndentationError", "(net.py, line 1)")),
    "nul": ("x = 1\0\n", ("null bytes",)),
    "latin1": ("x = 'caf\udce9'\n", ("SyntaxError", "utf-8")),
    "surrogate": ("raise ValueError('\\udcff')\n", ("net.py, line 1",)),
    "nothing": ("", ("no model in net.py: 'Net'; there is none",)),
    "other_name": (GOOD.replace("class Net", "class Nets"), ("did you mean Nets",)),
    "plain_class": ("class Net: pass\n", ("is no network", "derives from nn.Module")),
    "function": ("def Net(): pass\n", ("is no network",)),
    "number": ("Net = 3\n", ("is no network",)),
    "instance": ("from flax import linen as nn\nNet = nn.Dense(3)\n", ("is no network",)),
    "has_apply": ("class Net:\n    def apply(self): pass\n", ("is no network",)),
    "nnx": ("from flax import nnx\nclass Net(nnx.Module): pass\n", ("is no network",)),
    "imported": ("from flax.linen import Dense as Net\n", ("no default for features",)),
}  # fmt: skip
# Of these it is only training that finds fault.
IN_TRAINING = {
    "drop_path", "exits_in_training", "raises_in_training", "other_in_training", "fixed_batch",
    "state_grows", "no_gradient", "wrong_gradient", "nothing_to_train", "auxiliary_map",
    "single_values",
}  # fmt: skip
# Of these `summary` has nothing to say: counting asks for less than a run.
COUNTABLE = IN_TRAINING | {
    "drop_path", "dropout_on", "make_rng", "norm_on", "state_in_eval", "sow_losses",
    "state_of_images", "numpy_random", "numpy_random_shape", "python_random", "numpy_init",
    "the_time", "too_large", "raises_base", "whole_number_parameter",
}  # fmt: skip

_STUDY = {
    "name": '"mine"',
    "question": '"Is it?"',
    "source": '"a test"',
    "base": "small_images",
    "factors": '{"shortcut": {"A": {"model.shortcut": "A"}, "B": {"model.shortcut": "B"}}}',
    "seeds": "2",
    "metrics": '("train_error",)',
    "contrasts": '(Contrast("A", "B", "train_error"),)',
    "presets": '{"quick": Preset(settings={"steps": 2})}',
}
_WORDS = "from cnnjax import Arm, Contrast, Model, Preset, Study, Trend, small_images\n"


def study(before: str = "", **changed: str | None) -> str:
    """A study's file; None leaves a field out. `study = ` is in line 2."""
    fields = {**_STUDY, **changed}
    lines = [f"    {name}={text},\n" for name, text in fields.items() if text is not None]
    return _WORDS.removesuffix("\n") + f"{before}\nstudy = Study(\n{''.join(lines)})\n"


def _levels(text: str) -> str:
    return study(factors=f'{{"shortcut": {{"A": {{"model.shortcut": "A"}}, "B": {text}}}}}')


def _preset(text: str) -> str:
    return study(presets=f'{{"quick": Preset({text})}}')


def _trend(text: str) -> str:
    return study(contrasts=f'(Trend({text}, metric="train_error"),)')


def _contrast(text: str) -> str:
    return study(contrasts=f"(Contrast({text}),)")


_SHORTCUT = '"shortcut": {"A": {"model.shortcut": "A"}, "B": {"model.shortcut": "B"}}'
_WIDTH = '{"width": {"n": {"model.width": 0.25}, "w": {"model.width": 0.5}}}'

BROKEN_STUDIES = {
    # Every field, left out and of another type.
    **{f"no_{name}": (study(**{name: None}), ("my_study.py, line 2", f"'{name}'"))
       for name in _STUDY if name != "presets"},
    **{f"{name}_{value}": (study(**{name: value}), ("my_study.py, line 2", f"{name}"))
       for name in _STUDY for value in ("None", "3.5", "b'x'", "object()", "[None]", "10**5000")
       if (name, value) != ("seeds", "10**5000")},
    "name_path": (study(name='"../x"'), ("study '../x': a name is letters",)),
    "name_empty": (study(name='""'), ("study '': a name is",)),
    "name_long": (study(name='"a" * 300'), ("a name is",)),
    "name_line": (study(name=r'"a\nb"'), ("a name is",)),
    # Seeds.
    "seeds_half": (study(seeds="2.5"), ("seeds=2.5 must be a whole number",)),
    "seeds_word": (study(seeds='"3"'), ("seeds='3' must be a whole number",)),
    "seeds_true": (study(seeds="True"), ("seeds=True must be a whole number",)),
    "seeds_none": (study(seeds="0"), ("seeds=0 must be a whole number, 1 or more",)),
    "seeds_nan": (study(seeds='float("nan")'), ("seeds=nan must be",)),
    "seeds_many": (study(seeds="10**9"), ("2,000,000,000 cells",)),
    "seeds_some": (study(seeds="100_000"), ("200,000 cells", "10,000 at most")),
    "seeds_endless": (study(seeds="10**5000"), ("seeds: there are 4,294,967,296",)),
    "preset_seeds": (_preset("seeds='3'"), ("seeds='3' must be a whole number",)),
    "preset_seeds_many": (_preset("seeds=10**8"), ("200,000,000 cells",)),
    "arm_seeds": (_preset(f"arms=(Arm(where={{}}, factors={_WIDTH}, seeds=2.5),)"), ("seeds=2.5",)),
    # Factors and levels.
    "no_factor": (study(factors="{}"), ("needs a factor",)),
    "factor_number": (study(factors='{"depth": 3}'), ("factor depth must be a dict of levels",)),
    "factor_without_levels": (study(factors='{"depth": {}}'), ("factor depth must be a dict of",)),
    "factor_list": (study(factors='{"depth": ["8", "14"]}'), ("factor depth must be a dict",)),
    "factor_named_3": (study(factors='{3: {"A": {}}}'), ("factor 3: its name must be a string",)),
    "level_number": (_levels("8"), ("level 'B' of factor shortcut is 8", "write its settings")),
    "level_list": (_levels('["model.shortcut"]'), ("level 'B' of factor shortcut is [",)),
    "level_named_8": (study(factors='{"depth": {8: {"model.depth": 8}}}'), ("level 8 of factor",)),
    "level_dash": (study(factors='{"d": {"a-b": {}}}'), ("level 'a-b' of factor d", "letters")),
    "level_path": (study(factors='{"d": {"../a": {}}}'), ("level '../a' of factor d",)),
    "level_empty": (study(factors='{"d": {"": {}}}'), ("level '' of factor d",)),
    "setting_named_3": (_levels("{3: 4}"), ("level 'B' of factor shortcut",)),
    "setting_unknown": (_levels('{"model.shortcuts": "B"}'), ("did you mean model.shortcut",)),
    "setting_type": (_levels('{"model.depth": "8"}'), ("model.depth=8: give a whole number",)),
    "setting_nan": (_levels('{"model.width": float("nan")}'), ("model.width: a number must be",)),
    "setting_inf": (_levels('{"optimizer.momentum": float("inf")}'), ("must be 0 or more, and",)),
    "setting_endless": (_levels('{"batch_size": 10**5000}'), ("batch_size: a number must be",)),
    "setting_object": (_levels('{"batch_size": object()}'), ("batch_size=",)),
    "setting_seed": (_levels('{"streams.order": 2**32}'), ("a seed is 0 to 4294967295",)),
    "setting_group": (_levels('{"optimizer": 0.5}'), ("is a group of settings",)),
    "setting_in_group": (
        _levels('{"optimizer": {"momentun": 0.5}}'), ("did you mean optimizer.momentum",)
    ),
    "setting_idle": (_levels('{"epochs": 3}'), ("epochs=3 has no effect", "steps=2 ends the run")),
    "setting_same": (_levels('{"model.shortcut": "A"}'), ("A and B have the same settings",)),
    "setting_nothing": (_levels('{"source": "B"}'), ("A and B have the same settings",)),
    "model_unknown": (_levels('{"model.name": "vgg61"}'), ("did you mean vgg",)),
    "model_depth": (_levels('{"model.depth": 21}'), ("depth 21 is impossible",)),
    "model_no_file": (_levels('{"model.name": "no.py:Net"}'), ("no model file no.py",)),
    "model_no_class": (_levels('{"model.name": "net.py:Nat"}'), ("did you mean Net",)),
    "data_unknown": (_levels('{"data.name": "digts"}'), ("did you mean digits",)),
    "data_missing": (_levels('{"data.name": "folder:nowhere"}'), ("there is no folder",)),
    "batch_too_large": (_levels('{"batch_size": 2000}'), ("set batch_size to 1347 or less",)),
    "diverging_rate": (_levels('{"optimizer.learning_rate": 1e39}'), ("must be 0 or more, and",)),
    "one_setting_twice": (
        study(factors=f'{{{_SHORTCUT}, "more": {{"C": {{"model.shortcut": "C"}}}}}}'),
        ("factors shortcut and more both vary model.shortcut",),
    ),
    "base_field": (
        study(base='small_images.replace(model=Model("cifar_resnet8", {"widht": 1}))'),
        ("no setting of model cifar_resnet8: 'widht'", "did you mean width"),
    ),
    "base_word": (study(base='small_images.replace(batch_size="3")'), ("line 6: TypeError",)),
    "base_half": (
        study(base="small_images.replace(batch_size=2.5)"), ("give a whole number", "$.batch_")
    ),
    "base_model": (study(base="small_images.replace(model=3)"), ("model=3 must be a Model",)),
    "base_data": (study(base='small_images.replace(data="digits")'), ("$.data",)),
    "base_seed": (study(base="small_images.replace(streams=7)"), ("$.streams",)),
    # Metrics and contrasts.
    "metric_word": (study(metrics='"train_error"'), ("write (...,)",)),
    "metric_unknown": (study(metrics='("loss",)'), ("'loss'; did you mean test_loss",)),
    "metric_none": (study(metrics="()"), ("it needs a metric",)),
    "metric_twice": (study(metrics='("train_error",) * 2'), ("each once",)),
    "contrast_alone": (
        study(contrasts='Contrast("A", "B", "train_error")'), ("write (Contrast(...),)",)
    ),
    "contrast_words": (study(contrasts='(("A", "B"),)'), ("write (Contrast(...),)",)),
    "contrast_unknown": (_contrast('"A", "C", "train_error"'), ("named 'C'; there is A, B",)),
    "contrast_metric": (_contrast('"A", "B", "test_error"'), ("no metric 'test_error'",)),
    "contrast_itself": (_contrast('"A", "A", "train_error"'), ("compared with itself",)),
    "contrast_expect": (_contrast('"A", "B", "train_error", "less"'), ("expect='less' is not",)),
    "contrast_expect_3": (_contrast('"A", "B", "train_error", 3'), ("expect=3 is not one of",)),
    "contrast_bound": (_contrast('"A", "B", "train_error", bound=1'), ("`bound` goes with",)),
    "contrast_no_bound": (_contrast('"A", "B", "train_error", "equal"'), ("`bound` goes with",)),
    **{f"contrast_bound_{bound}": (
        _contrast(f'"A", "B", "train_error", "equal", {bound}'), ("must be above 0",))
       for bound in ("-1", "0", "True", '"2"', 'float("nan")', "100")},
    "contrast_number": (_contrast('3, "B", "train_error"'), ("first=3 must be a str",)),
    "contrast_twice": (
        study(contrasts='(Contrast("A", "B", "train_error"),) * 2'), ("compare the same variants",)
    ),
    "contrast_reversed": (
        study(contrasts='(Contrast("A", "B", "train_error"), Contrast("B", "A", "train_error"))'),
        ("A - B (train_error) and B - A (train_error) compare the same variants",),
    ),
    "preset_contrast_twice": (
        _preset('contrasts=(Contrast("A", "B", "train_error"),) * 2'),
        ("compare the same variants",),
    ),
    "trend_words": (_trend('"shortcut"'), ("level A of factor shortcut is no number",)),
    "trend_factor": (_trend('"shortcat"'), ("did you mean shortcut",)),
    "trend_number": (_trend("3"), ("factor=3 must be a str",)),
    "trend_equal": (_trend('"shortcut", expect="equal"'), ("'equal' is not one of 'lower',",)),
    "trend_where": (_trend('"shortcut", where=3'), ("where=3 must be a dict",)),
    "trend_twice": (
        study(contrasts='(Trend("shortcut", {}, "train_error"),) * 2'),
        ("slope over shortcut (train_error)", "compare the same variants"),
    ),
    # Presets and arms.
    "no_preset": (study(presets="{}"), ("it needs a preset",)),
    "preset_dict": (study(presets='{"quick": {}}'), ("preset 'quick' must be a Preset(...)",)),
    "preset_path": (study(presets='{"../x": Preset()}'), ("preset '../x': a name is",)),
    "preset_number": (study(presets="{3: Preset()}"), ("presets={3: Preset(",)),
    "preset_other": (study(presets='{"small": Preset()}'), ("no preset 'quick'; there is small",)),
    "preset_settings": (_preset("settings=[]"), ("settings=[] must be a dict",)),
    "preset_setting": (_preset('settings={"epoch": 3}'), ("did you mean epochs",)),
    "preset_setting_3": (_preset("settings={3: 3}"), ("settings={3: 3}: its keys must",)),
    "preset_factors": (_preset("factors=3"), ("factors=3 must be a dict",)),
    "preset_factor": (_preset(f"factors={_WIDTH}"), ("no factor in preset quick", "'width'")),
    "preset_about": (_preset("about=3"), ("about=3 must be a str",)),
    "preset_contrasts": (_preset("contrasts=3"), ("write (Contrast(...),)",)),
    "preset_arms": (_preset(f"arms=Arm(where={{}}, factors={_WIDTH})"), ("write (Arm(...),)",)),
    "arm_where": (_preset(f"arms=(Arm(where=3, factors={_WIDTH}),)"), ("where=3 must be a dict",)),
    "arm_level": (
        _preset(f'arms=(Arm(where={{"shortcut": "C"}}, factors={_WIDTH}),)'),
        ("no level of shortcut 'C'; there is A, B",),
    ),
    "arm_level_number": (
        _preset(f'arms=(Arm(where={{"shortcut": 3}}, factors={_WIDTH}),)'), ("must be a str",)
    ),
    "arm_fixes_nothing": (
        _preset(f"arms=(Arm(where={{}}, factors={_WIDTH}),)"), ("fixes no level of factor short",)
    ),
    "arm_fixes_and_varies": (
        _preset(f'arms=(Arm(where={{"shortcut": "A"}}, factors={{{_SHORTCUT}}}),)'),
        ("both fixes and varies factor shortcut",),
    ),
    "arm_fixes_more": (
        _preset(f'arms=(Arm(where={{"shortcut": "A", "depth": "8"}}, factors={_WIDTH}),)'),
        ("no factor for an arm of preset quick: 'depth'",),
    ),
    "arm_varies_what_is_fixed": (
        _preset('arms=(Arm({"shortcut": "A"}, {"s": {"x": {"model.shortcut": "B"}}}),)'),
        ("both vary model.shortcut",),
    ),
    # The file.
    "no_study": ("x = 1\n", ("has no `study = Study(...)`",)),
    "study_number": ("study = 3\n", ("has no `study = Study(...)`",)),
    "study_class": (_WORDS + "study = Study\n", ("has no `study = Study(...)`",)),
    "file_exits": ("import sys\nsys.exit(0)\n", ("my_study.py, line 2", "sys.exit(0)")),
    "file_raises": ("1 / 0\n", ("my_study.py, line 1: ZeroDivisionError",)),
    "file_breaks": ("study = Study(\n", ("SyntaxError", "(my_study.py, line 1)")),
    "file_imports": ("from cnnjax import Studdy\n", ("my_study.py, line 1: ImportError", "Studdy")),
    "file_raises_in_class": (study("; class S(str): __slots__ = 3"), ("my_study.py, line 1",)),
}  # fmt: skip
