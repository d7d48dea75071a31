"""Whether weights fit, found out by a process of its own.

To read them starts jax's devices, and those belong to the workers of a study.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from cnnjax.core.config import compact, full
from cnnjax.core.environment import module_paths
from cnnjax.core.errors import Failed, Refused, Say
from cnnjax.core.recipe import Recipe
from cnnjax.core.user_code import located, paths_from
from cnnjax.core.values import convert, plain
from cnnjax.tasks.task import DataSpec


def check_weights_apart(recipes: Sequence[tuple[Recipe, DataSpec]], say: Say) -> None:
    """`training.pretrained.check_weights` of each recipe, on the processor.

    Args:
      say: is told what of the weights is left out.

    Raises:
      Refused: some do not fit.
    """
    if not recipes:
        return
    asked = {
        "folder": str(located(".").absolute()),
        "recipes": [[compact(recipe), plain(data)] for recipe, data in recipes],
    }
    ran = subprocess.run(
        [sys.executable, "-P", "-m", "cnnjax.study.weights"],
        input=json.dumps(asked),
        env={**os.environ, **module_paths(), "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        text=True,
    )
    for line in ran.stdout.splitlines():
        kind, text = json.loads(line)
        if kind == "refused":
            raise Refused(text)
        say(text)
    if ran.returncode == -signal.SIGINT:
        raise KeyboardInterrupt
    if ran.returncode:
        raise Failed(f"the weights could not be looked at (exit code {ran.returncode})")


def main() -> None:
    from cnnjax.training.make import task_for
    from cnnjax.training.pretrained import check_weights

    results = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what users' files print is no answer

    def answer(kind: str, text: str) -> None:
        print(json.dumps([kind, text]), file=results, flush=True)

    asked = json.load(sys.stdin)
    with paths_from(Path(asked["folder"])):
        try:
            for written, data in asked["recipes"]:
                recipe = full(written, "recipe")
                task = task_for(recipe, convert(data, DataSpec, "data"))
                check_weights(task, recipe, lambda line: answer("say", line))
        except (Refused, Failed) as error:
            answer("refused", str(error))


if __name__ == "__main__":
    main()
