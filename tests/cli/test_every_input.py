"""No input of a user ends in a traceback: each is refused in one line, and nothing is written.

A table: what is typed, and what the line must say. What the files hold is in `user_files`.
"""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.cli.user_files import BROKEN, BROKEN_STUDIES, COUNTABLE, GOOD, IN_TRAINING, study
from tests.data.prepared_set import write_prepared
from tests.data.test_decode import GREY, pillow

TRAIN = "train --recipe small_images --data digits --workdir w"
STUDY = "study run degradation --preset smoke --workdir w"
LONG = "a" * 3000


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, with one file of each kind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "sets"))
    (tmp_path / "net.py").write_text(GOOD)
    (tmp_path / "afile").write_text("mine")
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder.npz").mkdir()
    for name in ("bad.npz", "bad.safetensors", "bad.pth"):
        (tmp_path / name).write_text("no weights")
    np.savez(tmp_path / "other.npz", weight=np.zeros(3, np.float32))
    return tmp_path


def refused(code: int, out: str, err: str) -> str:
    """The one line of a refusal."""
    assert code == 2, err
    assert out == ""
    assert "Traceback" not in err
    assert "fault of cnnjax" not in err
    # Where a user's network recurses, Python may say so of filelock's hook, before our line.
    err = err.replace("Exception ignored in audit hook", "")
    assert err.startswith("Error: ")
    assert err.count("\n") == 1, err
    return err


@pytest.fixture
def refuse(cli, here):
    """Run a command that must be refused, with nothing written; gives the line."""

    def run(command: str) -> str:
        before = tree(here)
        line = refused(*cli(*shlex.split(command)))
        assert tree(here) == before
        return line

    return run


def check(line: str, words: tuple[str, ...] | str) -> None:
    for word in (words,) if isinstance(words, str) else words:
        assert word in line, line


COMMANDS = [
    # Commands.
    ("modles", "did you mean models"),
    ("''", "no command ''"),
    ("--nothing", "No such option"),
    ("study x", "No such command 'x'"),
    ("data x", "No such command 'x'"),
    ("train", "Missing option '--workdir'"),
    ("train --workdir", "requires an argument"),
    ("train --workdir ''", "it is empty; give a folder"),
    ("train more --workdir w", "unexpected extra argument (more)"),
    (f"{TRAIN} --json=1", "does not take a value"),
    ("compare x", "unexpected extra argument (x)"),
    ("study run", "Missing argument"),
    ("study run ''", "no study ''"),
    ("study repeat w", "Missing argument"),
    ("summary", "Missing argument"),
    ("import-weights vgg16", "Missing argument"),
    ("export-weights w", "Missing argument"),
    # Numbers.
    (f"{TRAIN} --epochs 0", "epochs=0: must be 1 or more"),
    (f"{TRAIN} --epochs -1", "epochs=-1: must be 1 or more"),
    (f"{TRAIN} --epochs 1e3", "'1e3' is not a valid integer"),
    (f"{TRAIN} --epochs ''", "'' is not a valid integer"),
    (f"{TRAIN} --epochs 999999999999", "a run of 13,999,999,999,986 steps; it has 100,000,000"),
    (f"{TRAIN} --epochs {'9' * 400}", "epochs: a number must be finite and within 64 bits"),
    (f"{TRAIN} --batch-size 0", "batch_size=0: must be 1 or more"),
    (f"{TRAIN} --batch-size 1348", "set batch_size to 1347 or less"),
    (f"{TRAIN} --batch-size {10**30}", "batch_size: a number must be finite and within 64 bits"),
    (f"{TRAIN} --learning-rate nan", "learning_rate=nan: must be 0 or more, and finite"),
    (f"{TRAIN} --learning-rate inf", "learning_rate=inf: must be 0 or more, and finite"),
    (f"{TRAIN} --learning-rate -1", "optimizer.learning_rate=-1.0: must be 0 or more"),
    (f"{TRAIN} --learning-rate 1e39", "must be 0 or more, and finite"),
    (f"{TRAIN} --seed -1", "is not in the range 0<=x<=4294967295"),
    (f"{TRAIN} --seed 4294967296", "is not in the range 0<=x<=4294967295"),
    (f"{TRAIN} --seed {2**64}", "is not in the range 0<=x<=4294967295"),
    (f"{TRAIN} --seed 1.5", "'1.5' is not a valid integer"),
    (f"{TRAIN} --save-every nan", "--save-every nan: give seconds"),
    (f"{TRAIN} --save-every inf", "--save-every inf: give seconds"),
    (f"{TRAIN} --save-every -1", "is not in the range x>=0"),
    # Places.
    (f"{TRAIN} --placement ''", "no placement ''; there is jit, pmap, sharded"),
    (f"{TRAIN} --placement smap", "no placement 'smap'; did you mean pmap"),
    (f"{TRAIN} --devices 2", "--devices 2: placement jit takes one; type: --placement pmap"),
    (f"{TRAIN} --placement pmap --devices 0", "--devices 0: give 1 or more"),
    (f"{TRAIN} --placement pmap --devices 9", "there are 8 here; give 1 to 8, or let"),
    (f"{TRAIN} --placement pmap --batch-size 97", "batch_size to 96 or 104"),
    (f"{TRAIN} --placement pmap --model-shards 2", "placement pmap divides no parameter"),
    (f"{TRAIN} --placement sharded --model-shards 0", "--model-shards 0: give 1 or more"),
    (f"{TRAIN} --placement sharded --model-shards 3", "8 devices divide by 1, 2, 4, 8"),
    (f"{STUDY} --placement pmap --workers 2", "trains one cell at a time; leave out --workers"),
    (f"{STUDY} --placement pmap --devices 5", "--devices 5: there is 1 here; give 1 to 1"),
    (f"{STUDY} --placement sharded --model-shards 2", "--model-shards 2: one device holds every"),
    (f"{STUDY} --workers-per-device 2", "there is none here; type: --workers"),
    ("bench step --model nothing", "no model 'nothing'"),
    ("bench step --batch-size 0", "batch_size=0: must be 1 or more"),
    ("bench step --rounds 0", "is not in the range x>=1"),
    ("bench compile --model net.py:Net", "has no images of its own size"),
    ("bench compile --set data.name=digits", "data and length are its own"),
    ("bench data nothing", "no data set 'nothing'"),
    ("bench data digits --batch-size 0", "batch_size=0: must be 1 or more"),
    ("bench data digits --set model.name=lenet5", "only data.FIELD=VALUE counts here"),
    ("bench study nothing", "no study 'nothing'"),
    ("bench study degradation --preset nothing", "no preset 'nothing'"),
    ("bench study degradation --set model.depth=8", "model.depth"),
    (f"{TRAIN} --set compute.precision=float16", "compute.precision=float16"),
    (f"{TRAIN} --set compute.batch_norm_group=1", "batch_norm_group=1: must be 2 or more"),
    (f"{TRAIN} --set compute.batch_norm_group=7", "does not divide 96 examples; give 2, 3, 4, 6"),
    (f"{TRAIN} --model lenet5 --set compute.remat=true", "lenet5 has no equal blocks"),
    (f"{TRAIN} --model net.py:Net --set compute.precision=bfloat16", "has no field dtype"),
    ("settings optimisers", "optimisers"),
    ("settings optimizer --optimizer adamx", "no optimizer 'adamx'; did you mean adam"),
    ("settings --recipe x", "no recipe 'x'"),
    # Settings.
    (f"{TRAIN} --set ''", "write it as key=value"),
    (f"{TRAIN} --set =", "write it as key=value"),
    (f"{TRAIN} --set epochs", "write it as key=value"),
    (f"{TRAIN} --set ..=1", "no setting '..'"),
    (f"{TRAIN} --set .epochs=1", "no setting '.epochs'; did you mean epochs"),
    (f"{TRAIN} --set epoch=1", "did you mean epochs"),
    (f"{TRAIN} --set optimizer.momentun=1", "did you mean optimizer.momentum"),
    (f"{TRAIN} --set optimizer.momentum.x=1", "optimizer.momentum is one value"),
    (f"{TRAIN} --set optimizer=1", "optimizer is a group of settings; set one of optimizer.name"),
    (f"{TRAIN} --set 'streams=[]'", "streams is a group of settings"),
    (f"{TRAIN} --set 'streams={{\"ordr\": 1}}'", "did you mean order"),
    (f"{TRAIN} --set model=lenet5", "model is a group of settings"),
    (f"{TRAIN} --set 'model.fields={{}}'", "no setting 'model.fields'"),
    (f"{TRAIN} --set model.parent=1", "no setting 'model.parent'"),
    (f"{TRAIN} --set model.width=", "model.width=: give a number"),
    (f"{TRAIN} --set model.width=nan", "model.width=nan: give a number"),
    (f"{TRAIN} --set model.width=NaN", "model.width=NaN: give a number"),
    (f"{TRAIN} --set model.width=true", "model.width=true: give a number"),
    (f"{TRAIN} --set model.width=1e400", "model.width: a number must be finite"),
    (f"{TRAIN} --set model.width=-1", "width -1.0 leaves no channel"),
    (f"{TRAIN} --set model.width=1e9", "width 1000000000.0 leaves too many channels"),
    (f"{TRAIN} --set model.width=1e30", "leaves too many channels"),
    (f"{TRAIN} --set model.width=1e5", "GiB for its parameters and their momentum; this machine"),
    (f"{TRAIN} --set model.depth=21", "depth 21 is impossible"),
    (f"{TRAIN} --set model.depth=999998", "depth 999998 is too much"),
    (f"{TRAIN} --set model.depth={'9' * 5000}", "model.depth="),
    (f"{TRAIN} --set model.num_classes=1000000000000", "data set digits has 10 classes"),
    (f"{TRAIN} --set model.num_classes=0", "model.num_classes=0: must be 1 or more"),
    (f"{TRAIN} --set streams.order={10**20}", "a seed is 0 to 4294967295"),
    (f"{TRAIN} --set streams.order=4294967296", "a seed is 0 to 4294967295"),
    (f"{TRAIN} --set streams.order=-1", "a seed is 0 to 4294967295"),
    (f"{TRAIN} --set streams.order=1.5", "give a whole number or null, not a number"),
    (f"{TRAIN} --set batch_size=12.5", "batch_size=12.5: give a whole number"),
    (f"{TRAIN} --set batch_size=null", "batch_size=null: give a whole number"),
    (f"{TRAIN} --set 'batch_size=\"3\"'", "batch_size=3: give a whole number"),
    (f"{TRAIN} --set steps=0", "steps=0: must be 1 or more"),
    (f"{TRAIN} --set steps=999999999", "a run of 999,999,999 steps"),
    (f"{TRAIN} --set optimizer.momentum=1", "must be below 1"),
    (f"{TRAIN} --set optimizer.weight_decay=-1", "must be 0 or more"),
    (f"{TRAIN} --set schedule.name=x", "it is one of he2015, cosine, linear, polynomial"),
    (f"{TRAIN} --set schedule.warmup=1", "0 to below 1"),
    (f"{TRAIN} --set schedule.boundaries=0.5", "give a list"),
    (f"{TRAIN} --set schedule.name=he2015 --set schedule.boundaries=[0.5,0.2]", "rising fractions"),
    (f"{TRAIN} --set schedule.name=he2015 --set schedule.boundaries=[1e400]", "rising fractions"),
    (f"{TRAIN} --set loss.label_smoothing=1", "from 0 to below 1"),
    (f"{TRAIN} --set loss.name=lecun1998 --set loss.label_smoothing=0.1", "for cross_entropy only"),
    (f"{TRAIN} --set data.image_size=0", "image_size=0: must be 1 or more"),
    (f"{TRAIN} --set data.image_size=16", "digits is embedded as it is"),
    (f"{TRAIN} --set data.streaming=always", "digits is embedded as it is"),
    (f"{TRAIN} --set data.test_crops=3", "it is one of 1, 10"),
    (f"{TRAIN} --set data.pca_colour=1", "digits has no colour"),
    (f"{TRAIN} --set data.augmentation=random_resized_crop", "it is for streamed images"),
    (f"{TRAIN} --set data.mixup=-1", "must be 0 or more"),
    (f"{TRAIN} --recipe he2015", "did you mean he2015_cifar"),
    (f"{TRAIN} --recipe ''", "no recipe ''"),
    # Given twice, or without effect.
    (f"{TRAIN} --epochs 2 --set epochs=2", "--epochs 2 and --set epochs=2 both set epochs"),
    (f"{TRAIN} --set epochs=2 --set epochs=2", "both set epochs"),
    (f"{TRAIN} --set epochs=2 --set steps=3", "has no effect: steps=3 ends the run"),
    (f"{TRAIN} --epochs 2 --set steps=3", "--epochs 2 has no effect: steps=3 ends the run"),
    (f"{TRAIN} --set schedule.boundaries=[0.5]", "has no effect: schedule.name=cosine has none"),
    (f"{TRAIN} --model lenet5 --set model.name=cifar_resnet8", "both set model.name"),
    (f"{TRAIN} --set data.name=digits", "--data digits and --set data.name=digits both set"),
    (f"{TRAIN} --learning-rate 1 --set optimizer.learning_rate=1", "both set optimizer.learning_r"),
    (f"{TRAIN} --batch-size 5 --set batch_size=5", "both set batch_size"),
    ("summary resnet50 --set model.name=vgg16", "both set model.name"),
    ("summary resnet50 --set data.name=digits", "only model.FIELD=VALUE counts here"),
    ("summary resnet50 --set model=vgg16", "only model.FIELD=VALUE counts here"),
    ("visualize cifar_resnet8 --workdir w --set model.name=cifar_resnet14", "both set model.name"),
    ("visualize cifar_resnet8 --workdir w --set optimizer.learning_rate=3", "has no effect"),
    ("visualize cifar_resnet8 --workdir w --data digits --set data.name=digits", "both set data."),
    ("data info digits --set model.width=2", "--set model.width=2 has no effect"),
    ("data info digits --set data.name=mnist", "--set data.name=mnist has no effect"),
    ("data preview digits --set batch_size=2", "--set batch_size=2 has no effect"),
    ("import-weights vgg16 other.npz --out w --set model.name=vgg19", "both set model.name"),
    ("models --json --markdown", "--json and --markdown: give one of them"),
    (f"{STUDY} --set model.depth=8", "model.depth is varied by factor depth"),
    (f"{STUDY} --data digits --set data.name=digits", "both set data.name"),
    (f"{STUDY} --set batch_size=5 --set batch_size=6", "both set batch_size"),
    # Networks.
    (f"{TRAIN} --model cifar_resnet2O", "did you mean cifar_resnet"),
    (f"{TRAIN} --model CIFAR_ResNet20", "did you mean cifar_resnet20"),
    (f"{TRAIN} --model ''", "no model ''"),
    (f"{TRAIN} --model cifar_resnet21", "depth 21 is impossible"),
    (f"{TRAIN} --model cifar_resnet99998", "no model 'cifar_resnet99998'"),
    (f"{TRAIN} --model cifar_resnet0020", "no model 'cifar_resnet0020'"),
    (f"{TRAIN} --model resnet18", "images of 8x8: 32x32 or more"),
    (f"{TRAIN} --model net.py", "no model 'net.py'"),
    (f"{TRAIN} --model net.py:", "model 'net.py:': give FILE.py:NAME or package.module:NAME"),
    (f"{TRAIN} --model net.py:Nat", "no model in net.py: 'Nat'; did you mean Net"),
    (f"{TRAIN} --model .py:Net", "no model file .py"),
    (f"{TRAIN} --model no.py:Net", "no model file no.py"),
    (f"{TRAIN} --model empty.py:Net", "no model file empty.py"),
    (f"{TRAIN} --model ~no_such_user/net.py:Net", "no model file ~no_such_user/net.py"),
    (f"{TRAIN} --model {LONG}.py:Net", "File name too long"),
    (f"{TRAIN} --model {LONG}", "see: cnnjax models"),
    (f"{TRAIN} --model net.py:Net --set model.widht=3", "no setting 'model.widht'"),
    (f"{TRAIN} --model net.py:Net --set model.num_classes=0", "must be 1 or more"),
    ("models nothing", "no model 'nothing'"),
    ("models 'vggg*'", "no model that matches 'vggg*'"),
    ("models '['", "no model that matches '['"),
    ("models net.py:Net", "has no default input; type: cnnjax summary net.py:Net --input"),
    ("summary vgg61", "did you mean vgg"),
    ("summary net.py:Net", "has no default input; give one, e.g. --input 32 32 3"),
    ("summary vgg16 --input 16 16 3", "images of 16x16: 32x32 or more"),
    ("summary vgg16 --input 0 16 3", "is not in the range"),
    (f"summary vgg16 --input {10**30} 16 3", "is not in the range"),
    ("summary vgg16 --input 16 16", "requires 3 arguments"),
    ("summary vgg16 --input 16 16 x", "'x' is not a valid integer"),
    ("summary vgg16 --batch 0", "is not in the range"),
    (f"summary vgg16 --batch {10**30}", "is not in the range"),
    ("summary vgg16 --set model.num_classes=0", "model.num_classes=0: must be 1 or more"),
    ("summary vgg16 --set model.num_classes=-1", "model.num_classes=-1: must be 1 or more"),
    (f"summary vgg16 --set model.num_classes={10**30}", "must be finite and within 64 bits"),
    ("summary vgg16 --set model.kernel=7x7", "it is one of 3x3x2, 5x5"),
    ("summary resnet50 --set model.dtype=float64", "it is one of float32, bfloat16"),
    (f"{TRAIN} --set model.dtype=bfloat16", "are one thing; leave out model.dtype"),
    ("summary cifar_resnet8 --set model.width=1e300", "leaves too many channels"),
    ("summary cifar_resnet8 --set model.width=1e-300", "leaves no channel"),
    # Data.
    ("train --data digts --workdir w", "did you mean digits"),
    ("train --data '' --workdir w", "no data set ''"),
    ("train --data ../x --workdir w", "no data set '../x'"),
    ("train --data mnits --workdir w", "did you mean mnist"),
    ("train --data xyzxyz --workdir w", "there is digits, "),
    ("train --data mnist --workdir w", "type: cnnjax data prepare mnist"),
    ("train --data mnist --data-dir no --workdir w", "there is no such folder"),
    ("train --data mnist --data-dir afile --workdir w", "looked in afile"),
    (f"train --data {LONG} --workdir w", "there is digits, "),
    ("train --data nowhere.npz --workdir w", "there is no file nowhere.npz"),
    ("train --data folder.npz --workdir w", "there is no file folder.npz"),
    ("train --data bad.npz --workdir w", "bad.npz cannot be read"),
    ("train --data other.npz --workdir w", "other.npz has no train_images (there is"),
    ("train --data empty/.npz --workdir w", "there is no file empty/.npz"),
    (f"train --data {LONG}.npz --workdir w", "File name too long"),
    ("train --data nowhere.py:f --workdir w", "no data file nowhere.py"),
    ("train --data net.py:Nat --workdir w", "no data in net.py: 'Nat'; did you mean Net"),
    ("train --data net.py:Net --workdir w", "net.py:Net returns what is of type Net"),
    ("train --data net.py:jnp --workdir w", "net.py:jnp is of type module; give a function"),
    ("train --data nowhere.at.all:f --workdir w", "no data module 'nowhere.at.all'; install it"),
    ("train --data json:dumps --workdir w", "json:dumps requires obj"),
    ("train --data platform:system --workdir w", "returns what is of type str"),
    ("train --data a:b:c --workdir w", "no data set 'a:b:c'"),
    (f"{TRAIN} --set data.test_share=0.2", "digits has a test part (450 images)"),
    (f"{TRAIN} --set data.test_share=2", "test_share=2.0: a share, 0 (off) to below 1"),
    (f"{TRAIN} --set data.validation_share=NaN", "give a number, not text"),
    (f"{TRAIN} --set data.train_examples=0", "train_examples=0: must be 1 or more"),
    (f"{TRAIN} --set data.train_examples=9", "set 10 to 1347"),
    (f"{TRAIN} --set data.train_examples=99999999999", "set 10 to 1347"),
    (f"{TRAIN} --set data.split_seed=4294967296", "a seed is 0 to 4294967295"),
    (f"{TRAIN} --set data.split_seed=1", "has no effect: nothing is split"),
    (f"{TRAIN} --set data.unreadable=skip", "has no effect: digits is read into memory"),
    ("data check digits --set data.image_size=3", "--set data.image_size=3 has no effect"),
    ("data check nowhere.npz", "there is no file nowhere.npz"),
    ("data prepare nowhere.npz", "needs no preparation"),
    ("train --data folder:nowhere --workdir w", "there is no folder nowhere"),
    ("train --data folder:afile --workdir w", "there is no folder afile"),
    ("train --data folder:empty --workdir w", "there is no folder empty/train"),
    ("train --data folder:~no_such_user --workdir w", "there is no folder ~no_such_user"),
    ("train --data folder: --workdir w", "there is no folder train"),
    (f"train --data folder:{LONG} --workdir w", "File name too long"),
    (r"""train --set 'data.name="folder:a\u0000b"' --workdir w""", "there is no folder"),
    (r"""train --set 'data.name="folder:\ud800"' --workdir w""", "there is no folder"),
    ("data info", "Missing argument"),
    ("data info digit", "did you mean digits"),
    ("data info digits --set data.image_size=16", "digits is embedded as it is"),
    ("data info mnist/a/b", "no data set 'mnist/a/b'"),
    ("data preview digits --out x.gif", "ends in .png"),
    ("data preview digits --out ''", "ends in .png"),
    ("data preview digits --out no/x.png", "there is no folder no"),
    ("data preview digits --out afile/x.png", "there is no folder afile"),
    (f"data preview digits --out {LONG}.png", "File name too long"),
    ("data preview digits --split val", "is not one of 'train', 'test'"),
    ("data prepare digits", "digits needs no preparation"),
    ("data prepare folder:x", "folder:x needs no preparation"),
    ("data prepare mnits", "did you mean mnist"),
    ("data prepare ''", "no data set ''"),
    # Folders and files.
    (f"{TRAIN[:-1]}afile", "cannot be written (File exists)"),
    (f"{TRAIN[:-1]}afile/x", "cannot be written (Not a directory)"),
    (f"{TRAIN[:-1]}.", "holds other files (afile, bad.npz, bad.pth)"),
    (f"{TRAIN[:-1]}/dev/null", "cannot be written"),
    (f"{TRAIN[:-1]}/proc/x", "cannot be written"),
    (f"{TRAIN[:-1]}{LONG}", "File name too long"),
    (f"{STUDY[:-1]}afile", "cannot be written (File exists)"),
    (f"{STUDY[:-1]}.", "holds other files"),
    (f"{STUDY[:-1]}''", "it is empty; give a folder"),
    ("visualize cifar_resnet8 --workdir afile", "cannot be written (File exists)"),
    ("visualize cifar_resnet8 --workdir .", "holds other files"),
    ("visualize cifar_resnet8 --workdir w --index 450", "digits test has 0 to 449"),
    (f"visualize cifar_resnet8 --workdir w --index {10**30}", "digits test has 0 to 449"),
    ("visualize cifar_resnet8 --workdir w --seed -1", "is not in the range"),
    ("visualize net.py:Net --workdir w", "has no method feature_maps"),
    ("visualize resnet50 --workdir w", "images of 8x8: 32x32 or more"),
    ("visualize nothing --workdir w", "no model 'nothing'"),
    *((f"{command} {place}", f"{words} is no {kind}")
      for command, kind in (("eval", "run"), ("study status", "study"), ("study report", "study"))
      for place, words in ((".", "."), ("no", "no"), ("afile", "afile"), ("empty", "empty"),
                           ("''", "."))),
    (f"eval {LONG}", "File name too long"),
    ("eval . --split val", "is not one of 'test', 'train'"),
    ("study repeat . x", ". is no study"),
    (f"study repeat {LONG} x", "File name too long"),
    ("import-weights vgg16 no.npz --out w", "there is no such file"),
    ("import-weights vgg16 '' --out w", ". is a folder; give a file of weights"),
    ("import-weights vgg16 folder.npz --out w", "folder.npz is a folder"),
    ("import-weights vgg16 bad.npz --out w", "weights are read from safetensors, npz"),
    ("import-weights vgg16 bad.pth --out w", "weights are read from safetensors, npz"),
    ("import-weights vgg16 afile --out w", "afile is none of these, or damaged"),
    ("import-weights nothing other.npz --out w", "no model 'nothing'"),
    ("import-weights net.py:Net other.npz --out w", "has no default input"),
    ("import-weights vgg16 other.npz --out ''", "it is empty; give a folder"),
    ("import-weights vgg16 other.npz --out w --input 1 1 3", "images of 1x1: 32x32 or more"),
    *((f"export-weights {place} x.npz", "holds neither a run")
      for place in (".", "no", "afile", "empty", "''")),
    # Studies.
    ("study run degradatoin", "did you mean degradation"),
    ("study run no.py", "no study file no.py"),
    ("study run .", "no study '.'"),
    ("study run net.py", "net.py has no `study = Study(...)`"),
    ("study run folder.py", "no study file folder.py"),
    (f"study run {LONG}.py", "File name too long"),
    ("study run degradation --preset smok", "did you mean smoke"),
    ("study run degradation --preset ''", "no preset ''"),
    ("study run degradation --preset ../x", "no preset '../x'"),
    (f"{STUDY} --seeds 0", "seeds=0: must be 1 or more"),
    (f"{STUDY} --seeds 2.5", "'2.5' is not a valid integer"),
    (f"{STUDY} --seeds 1000000000", "4,000,000,000 cells"),
    (f"{STUDY} --seeds {10**30}", "cells, a training each; a study has 10,000 at most"),
    (f"{STUDY} --workers 0", "is not in the range x>=1"),
    (f"{STUDY} --data digts", "did you mean digits"),
    (f"{STUDY} --data ''", "no data set ''"),
    (f"{STUDY} --data mnist --data-dir no", "there is no such folder"),
    (f"{STUDY} --set bach_size=3", "did you mean batch_size"),
    (f"{STUDY} --set model.name=vgg16", "no setting 'model.shortcut'"),
    (f"{STUDY} --set batch_size=2000", "set batch_size to 1347 or less"),
    (f"{STUDY} --set model.width=0.01", "leaves no channel"),
    (f"{STUDY} --set optimizer.learning_rate=-1", "must be 0 or more"),
]  # fmt: skip


@pytest.mark.parametrize(("command", "words"), COMMANDS, ids=[c[:90] for c, _ in COMMANDS])
def test_a_command(refuse, command, words):
    check(refuse(command), words)


@pytest.mark.parametrize("command", ["", "study", "data"])
def test_a_group_alone_prints_its_help_as_it_is(cli, command):
    code, out, err = cli(*command.split())
    assert (code, out) == (2, "")
    assert err.startswith("Usage: cnnjax")
    assert "Error:" not in err
    assert len(err.splitlines()) > 10


@pytest.mark.core  # what jax and flax say of it differs between versions
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_network(refuse, here, name):
    text, words = BROKEN[name]
    (here / "net.py").write_bytes(text.encode(errors="surrogateescape"))
    check(refuse(f"{TRAIN} --model net.py:Net --batch-size 2"), words)
    if name not in IN_TRAINING:
        check(refuse("visualize net.py:Net --data digits --workdir w"), words)
    if name not in COUNTABLE and not name.startswith("logits"):
        line = refuse("summary net.py:Net --input 8 8 1")
        if any("net.py, line" in word for word in words):
            check(line, "net.py, line")


def test_what_a_network_prints_does_not_break_json(cli, here):
    loud = GOOD.replace("class Net", 'print("loading")\nclass Net').replace(
        "        x =", '        print("hello")\n        x ='
    )
    (here / "net.py").write_text(loud)
    code, out, err = cli(*shlex.split(f"{TRAIN} --model net.py:Net --set steps=1 --json"))
    assert code == 0, err
    assert json.loads(out)["steps"] == 1
    assert "loading" in err
    assert "hello" in err
    code, out, _ = cli(*shlex.split("summary net.py:Net --input 8 8 1 --json"))
    assert json.loads(out)["params"] == 210


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("summary lenet5", "parameters"),
        ("models lenet5", "published"),
        ("data info digits", "digits"),
        ("data info digits", "train images"),
    ],
)
def test_tables_are_results(cli, here, command, words):
    code, out, err = cli(*command.split())
    assert (code, err) == (0, "")
    assert words in out


# Many commands, each in a folder of its own, in one process without the tests' type checks.
_ONE_BY_ONE = """
import contextlib, io, json, os, sys
from cnnjax.cli.main import cnnjax, run
for line in sys.stdin:
    folder, words = json.loads(line)
    os.chdir(folder)
    out, err, code = io.StringIO(), io.StringIO(), None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            run(cnnjax, words)
        except SystemExit as ended:
            code = ended.code or 0
    print(json.dumps([code, out.getvalue(), err.getvalue()]), flush=True)
"""


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """How `study run` of each broken study ended: exit code, output, errors, and its folder."""
    root = tmp_path_factory.mktemp("studies")
    jobs = []
    for text, _ in BROKEN_STUDIES.values():
        folder = root / f"{len(jobs)}"
        folder.mkdir()
        (folder / "net.py").write_text(GOOD)
        (folder / "my_study.py").write_text(text)
        jobs.append(json.dumps([str(folder), ["study", "run", "my_study.py", "--workdir", "w"]]))
    done = subprocess.run([sys.executable, "-c", _ONE_BY_ONE], input="\n".join(jobs),
                          capture_output=True, text=True, check=True)  # fmt: skip
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    folders = [root / f"{index}" for index in range(len(jobs))]
    return dict(zip(BROKEN_STUDIES, zip(lines, folders, strict=True), strict=True))


@pytest.mark.parametrize("name", BROKEN_STUDIES)
def test_a_broken_study(ended, name):
    result, folder = ended[name]
    check(refused(*result), BROKEN_STUDIES[name][1])
    assert tree(folder) == ["my_study.py", "net.py"]


@pytest.mark.parametrize("name", ["drop_path", "numpy_random", "raises", "logits_more", "exits"])
def test_a_broken_network_in_a_study(refuse, here, name):
    text, words = BROKEN[name]
    (here / "net.py").write_text(text)
    (here / "my_study.py").write_text(
        study(factors='{"rate": {"a": {"optimizer.learning_rate": 0.1},'
                      ' "b": {"optimizer.learning_rate": 0.2}}}',
              contrasts='(Contrast("a", "b", "train_error"),)',
              base='small_images.replace(model=Model("net.py:Net"))')
    )  # fmt: skip
    check(refuse("study run my_study.py --workdir w"), words)


SETS = [
    ("simpte", "data set simpte is not prepared"),
    ("shards", ("1 of 2 files of train are missing or damaged", "is missing")),
    ("cut", "files of test are missing or damaged"),
    ("classless", "class"),
    ("two", ("2 configurations", "two/large, two/small")),
    ("made --set data.train_split=train[:0]", "data.train_split=train[:0] holds no example"),
    ("made --set data.train_split=validation", "no split 'validation'; it has"),
    ("made --set data.train_split=", "no split ''"),
    ("made --set 'data.train_split=train[:200%]'", "data.train_split"),
    ("made --set 'data.train_split=train[x:]'", "train[x:] holds no example"),
    ("made --set data.streaming=always", "say to which size"),
    ("about", "cannot be read"),
    ("features", "no set that can be read"),
]


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Prepared sets, most of them damaged."""
    root = tmp_path_factory.mktemp("sets")
    examples = [(pillow(GREY, "PNG"), 0), (pillow(GREY, "PNG"), 1)] * 2
    splits = {"train": examples, "test": examples}
    for name in ("made", "cut", "about", "features", "two/large", "two/small"):
        write_prepared(root, name, splits)
    next((root / "cut").rglob("*test.array_record*")).write_bytes(b"cut")
    (root / "about/1.0.0/dataset_info.json").write_text("{")
    (root / "features/1.0.0/features.json").write_text("{")
    folder = write_prepared(root, "shards", splits, shards=2)
    next(folder.glob("*train.array_record-00001*")).unlink()
    write_prepared(root, "classless", splits, label_names=())
    write_prepared(root, "simpte", splits, version="incomplete.X1_1.0.0")
    return root


@pytest.mark.parametrize("command", ["data info", "train --workdir w --data"])
@pytest.mark.parametrize(("rest", "words"), SETS, ids=[rest for rest, _ in SETS])
def test_a_damaged_set(refuse, sets, command, rest, words):
    check(refuse(f"{command} {rest} --data-dir {sets}"), words)
