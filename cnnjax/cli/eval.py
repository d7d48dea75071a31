"""`cnnjax eval`."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from cnnjax.cli.options import IMAGES_OF_WEIGHTS, changed, only, start_jax
from cnnjax.cli.output import (
    data_dir_option,
    json_option,
    print_json,
    print_table,
    print_text,
    say,
    set_option,
    shown,
    units_of,
)

# What decides which images weights are judged on, and how they look.
_DATA = (*IMAGES_OF_WEIGHTS, "data.test_crops")
_WEIGHTS = ("weights.json", "weights.safetensors")


@click.command(name="eval")
@click.argument("workdir", metavar="DIR")
@click.option(
    "--data",
    help="For imported weights: digits, any set of tensorflow-datasets, or folder:DIR.  [a run: its"
    " own]",
)
@click.option("--split", type=click.Choice(["test", "train"]), default="test", show_default=True)
@data_dir_option
@click.option(
    "--predictions",
    metavar="FILE.npz",
    help="Write label, prediction and probabilities of every example, in the order of the set.",
)
@click.option(
    "--against",
    metavar="FILE.npz",
    help="Compare with the --predictions of another network on the same examples: McNemar's test.",
)
@set_option
@json_option
def evaluate(
    workdir: str,
    data: str | None,
    split: str,
    predictions: str | None,
    against: str | None,
    data_dir: str | None,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Evaluate the newest intact checkpoint of the run in DIR, or imported weights.

    \b
      cnnjax eval runs/first
      cnnjax eval weights/resnet50 --data folder:photographs

    Prints the metrics of its task (for classification errors in per cent and mean loss in nats;
    with --json the confusion matrix too) and the number of examples; every example counts exactly
    once. A run's data are looked for where they lay while it trained, unless
    --data-dir says otherwise. Weights need --data; images are normalised as import-weights was
    told, unless --set data.normalization says otherwise, and those of a folder are brought to the
    size that the weights are for.
    """
    from cnnjax.core.environment import configure_xla
    from cnnjax.core.errors import Refused
    from cnnjax.core.recipe import Recipe
    from cnnjax.core.user_code import paths_of
    from cnnjax.training.restore import read_run

    configure_xla()
    folder = Path(workdir)
    out = None if predictions is None else Path(predictions)
    if out is not None and (out.suffix != ".npz" or not out.absolute().parent.is_dir()):
        raise Refused(f"--predictions {out}: give a .npz file in a folder that is there")
    other = None if against is None else _read(against)
    kept: list[Any] = []
    if (folder / "run.json").is_file() or not any((folder / name).is_file() for name in _WEIGHTS):
        read_run(folder)  # a wrong folder is refused before jax is started
        given = [f"--data {data}"] * (data is not None) + [f"--set {text}" for text in settings]
        if given:
            raise Refused(f"{given[0]} has no effect: a run is judged on the data of its recipe")
        start_jax()

        from cnnjax.training.run import evaluate_run

        figures = evaluate_run(folder, data_dir, split, say, keep=kept.append)
    else:
        from cnnjax.training.subject import evaluate_weights, without_data

        if data is None:
            raise without_data(folder)
        only(settings, _DATA, f"of the data count {', '.join(_DATA)}")
        recipe = changed(Recipe(), {"data.name": ("--data", data)}, settings)
        start_jax()
        figures = evaluate_weights(folder, recipe.data, data_dir, split, say, keep=kept.append)
    if (out is not None or other is not None) and (not kept or not hasattr(kept[0], "arrays")):
        option = "--predictions" if out is not None else "--against"
        raise Refused(f"{option}: task {figures['task']} keeps none")
    if out is not None:
        _write(out, kept[0].arrays())
    if other is not None:
        from cnnjax.analysis.mcnemar import mcnemar

        figures["against"] = asdict(mcnemar(kept[0].arrays(), other, f"--against {against}"))
    if as_json:
        print_json(figures)
        return
    about = read_run(folder) if (folder / "run.json").is_file() else {}
    with paths_of(about):  # a task of one's own lies where the run was typed
        units = units_of(figures["task"])
    plain = {key: value for key, value in figures.items() if not isinstance(value, list | dict)}
    rows = [(key, _with_noise(key, value, figures, units.get(key))) for key, value in plain.items()]
    print_table(("", ""), rows)
    if found := figures.get("against"):
        print_text(
            f"wrong here alone {found['only_first']:,}, in {against} alone"
            f" {found['only_second']:,} of {found['examples']:,}: McNemar's p {found['p']:.4g}."
            " It is about these two networks; another seed is another network (cnnjax study)."
        )


def _with_noise(key: str, value: object, figures: dict[str, Any], unit: str | None) -> str:
    """An error with its binomial standard error: what another choice of test images may change."""
    if not key.endswith("_error") or not isinstance(value, float) or unit != "%":
        return shown(value, unit)
    from cnnjax.analysis.mcnemar import standard_error

    return f"{shown(value, unit)} ± {standard_error(value, figures['examples']):.2f} (binomial)"


def _read(path: str) -> dict[str, Any]:
    """`labels` and `predictions`, as --predictions writes them.

    Raises:
      Refused: it is no such file.
    """
    import zipfile
    import zlib

    import numpy as np

    from cnnjax.core.errors import Refused

    cure = "write it with cnnjax eval --predictions"
    try:
        with zipfile.ZipFile(path), np.load(path, allow_pickle=False) as stored:
            found = {name: stored[name] for name in ("labels", "predictions")}
    except KeyError:
        raise Refused(f"--against {path}: it has no labels and predictions; {cure}") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        reason = getattr(error, "strerror", None) or "it is no .npz file, or damaged"
        raise Refused(f"--against {path}: {reason}; {cure}") from None
    shapes = {array.shape for array in found.values()}
    if len(shapes) > 1 or found["labels"].ndim != 1:
        raise Refused(
            f"--against {path}: labels and predictions are not rows of one length; {cure}"
        )
    return found


def _write(path: Path, arrays: dict[str, Any]) -> None:
    import io

    import numpy as np

    from cnnjax.core.files import atomic_write

    data = io.BytesIO()
    np.savez_compressed(data, **arrays)
    atomic_write(path, data.getvalue())
