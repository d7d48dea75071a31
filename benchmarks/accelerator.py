"""What cnnjax does on an accelerator, beside PyTorch on the same card: one JSON, in minutes.

Each part runs in a process of its own, so one that fails hides no other; what is done is written
after each. Run: python benchmarks/accelerator.py [--dry] [--out FILE] [--data-dir DIR] [PART...]

tests      the fast tests of ops, models and placements on this backend
step       training steps of this project
torch      the same steps by PyTorch (benchmarks/pytorch_nets.py)
bits       what bit-equality costs, and whether a repeat has the same bits
study      the quick degradation study, by several numbers of workers, and PyTorch's grid
cell       cifar_resnet20 by its paper's recipe on CIFAR-10

--dry runs each part small enough for a processor: it says whether the script works.
"""

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = ("tests/ops", "tests/layers", "tests/models/test_resnet.py", "tests/training")
STEPS = {  # model: batches and precisions
    "cifar_resnet20": [(128, "float32"), (128, "bfloat16"), (1024, "float32"), (1024, "bfloat16")],
    "cifar_resnet56": [(128, "float32"), (128, "bfloat16"), (1024, "bfloat16")],
    "resnet50": [(256, "float32"), (256, "bfloat16")],
}
TORCH = (
    "cifar_resnet20:128:float32:eager",
    "cifar_resnet20:128:float32:compiled",
    "cifar_resnet20:128:bfloat16:compiled",
    "cifar_resnet20:1024:float32:compiled",
    "cifar_resnet20:1024:bfloat16:compiled",
    "resnet50:256:float32:eager",
    "resnet50:256:bfloat16:eager",
    "resnet50:256:bfloat16:compiled",
    "cifar_resnet56:128:bfloat16:compiled",
)


_SHARED = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # several processes on one device


def part_tests(options: argparse.Namespace) -> dict:
    """The tests' tolerances are those of float32: TF32 is switched off for them. Nothing is tuned:
    they compile much and compute little."""
    command = [sys.executable, "-m", "pytest", "-q", "--maxfail=40", "-o", "addopts=", "-m",
               "not long", "--jaxtyping-packages=cnnjax,beartype.beartype", "-p",
               "no:cacheprovider", "--confcutdir=tests", *TESTS]  # fmt: skip
    # Collected whole in a dry run too: a file that is not there must not be found out elsewhere.
    command += ["--collect-only"] if options.dry else [
        "-n", str(min(12, os.cpu_count() or 1)), "--dist", "loadfile"
    ]  # fmt: skip
    environment = {**os.environ, "JAX_DEFAULT_MATMUL_PRECISION": "highest", **_SHARED}
    environment |= {} if options.dry else {"XLA_FLAGS": "--xla_gpu_autotune_level=0"}
    start = time.perf_counter()
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    lines = ran.stdout.splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return {
        "seconds": time.perf_counter() - start,
        "exit": ran.returncode,
        "summary": lines[-1] if lines else ran.stderr[-500:],
        "failed": failed,
        "tail": ran.stdout[-6000:] if ran.returncode else "",
    }


def part_step(options: argparse.Namespace) -> dict:
    from cnnjax.bench import device
    from cnnjax.bench.step import bench_step, epoch_of, noise
    from cnnjax.core.config import override
    from cnnjax.core.recipe import Model
    from cnnjax.training.recipes import he2015_cifar

    peaks = {precision: device.matmul_flops(precision) for precision in ("float32", "bfloat16")}
    found: dict = {"device": device.name(), "matmul_flops": peaks, "steps": {}}
    cases = {"cifar_resnet20": [(32, "float32")]} if options.dry else STEPS
    for name, forms in cases.items():
        size, classes = (224, 1000) if name == "resnet50" else (32, 10)
        for batch, precision in forms:
            if not re.search(options.cases, f"{name}:{batch}:{precision}"):
                continue
            dataset = noise((size, size, 3), epoch_of((size, size, 3), batch), classes)
            recipe = he2015_cifar.replace(model=Model(name), batch_size=batch)
            recipe = override(recipe, "compute.precision", precision)
            try:
                figures = bench_step(recipe, dataset, rounds=5, matmul_flops=peaks[precision])
                found["steps"][f"{name}:{batch}:{precision}"] = {
                    key: value for key, value in vars(figures).items()
                    if key not in ("versions", "bits", "device")
                }  # fmt: skip
                found["versions"], found["bits"] = figures.versions, figures.bits
            except Exception as error:  # out of memory, say: the others go on
                found["steps"][f"{name}:{batch}:{precision}"] = {"error": str(error)[:300]}
            print(name, batch, precision, found["steps"][f"{name}:{batch}:{precision}"],
                  file=sys.stderr, flush=True)  # fmt: skip
    return found


def part_torch(options: argparse.Namespace) -> dict:
    cases = ("cifar_resnet20:32:float32:eager",) if options.dry else TORCH
    cases = [case for case in cases if re.search(options.cases, case)]
    return _json(sys.executable, str(ROOT / "benchmarks/pytorch_nets.py"), *cases)


def part_bits(options: argparse.Namespace) -> dict:
    """Two epochs' worth of steps, twice with and twice without XLA's deterministic operations."""
    flag = "--xla_gpu_deterministic_ops=true"
    found: dict = {}
    for name, flags in (("free", ""), ("deterministic", flag)):
        if options.dry and name == "deterministic":
            continue  # a flag of GPUs
        both = [
            _json(sys.executable, __file__, "--once", env={"XLA_FLAGS": flags}) for _ in range(2)
        ]
        found[name] = {
            "step_ms": [one["step_ms"] for one in both],
            "same_bits": both[0]["sha256"] == both[1]["sha256"],
        }
    return found


def once(options: argparse.Namespace) -> dict:
    """Some steps of cifar_resnet20; the digest of the state after them."""
    from cnnjax.core.environment import configure_xla

    configure_xla()
    import jax
    import numpy as np

    from cnnjax.bench.step import noise
    from cnnjax.core.config import override
    from cnnjax.training.recipes import he2015_cifar
    from cnnjax.training.setup import prepare

    batch, steps = (16, 2) if jax.default_backend() == "cpu" else (128, 300)
    recipe = override(he2015_cifar, "data.augmentation", "pad_crop_flip")
    recipe = recipe.replace(batch_size=batch)
    dataset = noise((32, 32, 3), batch * steps)
    training = prepare(recipe, 0, dataset)
    put, task = training.placement.put, training.task
    state = put(task.pack(training.state), "state")
    sums = put(task.empty_metrics(training.state), "whole")
    rates = np.full(training.per_epoch, 0.01, np.float32)
    state, sums = training.feed.advance(state, sums, 0, 0, 1, rates)
    jax.block_until_ready(state)
    start = time.perf_counter()
    state, sums = training.feed.advance(state, sums, 0, 1, steps, rates)
    jax.block_until_ready(state)
    seconds = time.perf_counter() - start
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(jax.device_get(state)):
        digest.update(np.asarray(leaf).tobytes())
    return {"step_ms": 1000 * seconds / max(steps - 1, 1), "sha256": digest.hexdigest()}


def part_study(options: argparse.Namespace) -> dict:
    """Warm: one cell of each variant was run before, so the programs are in the cache."""
    numbers = (1,) if options.dry else options.workers
    preset = "smoke" if options.dry else "quick"
    found: dict = {"seconds": {}}
    with tempfile.TemporaryDirectory() as folder:
        for name, workers, more in [("cold", numbers[-1], ["--seeds", "2"])] + [
            (str(number), number, []) for number in numbers
        ]:
            start = time.perf_counter()
            command = [sys.executable, "-m", "experiments.degradation", "--preset", preset]
            command += ["--workdir", f"{folder}/{name}", "--workers", str(workers), *more]
            environment = {**os.environ, **_SHARED, "PYTHONPATH": _path()}
            ran = subprocess.run(command, capture_output=True, text=True, env=environment)
            seconds = time.perf_counter() - start
            found["seconds"][name] = f"exit {ran.returncode}" if ran.returncode else seconds
            found["last"] = ran.stdout[-1500:] if ran.returncode == 0 else ran.stderr[-1500:]
            print("study", name, found["seconds"][name], file=sys.stderr, flush=True)
    if not options.dry:
        grid = _json(sys.executable, str(ROOT / "benchmarks/pytorch_nets.py"), "--grid")
        one = found["torch_one_seed"] = grid.get("seconds", grid)
        if "seconds" in grid:
            found["torch_eight_seeds_seconds"] = 8 * sum(one.values())
    return found


def part_cell(options: argparse.Namespace) -> dict:
    """164 epochs of cifar_resnet20 on CIFAR-10."""
    more = ["--data", "digits", "--epochs", "1", "--batch-size", "32"] if options.dry else []
    if options.data_dir:
        more += ["--data-dir", options.data_dir]
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        result = _json(
            sys.executable, "-c", "from cnnjax.cli.main import main; main()", "train", "--json",
            "--workdir", f"{folder}/run", "--save-every", "3600", *more)  # fmt: skip
        result["wall_seconds"] = time.perf_counter() - start
    return result


PARTS = {name.removeprefix("part_"): function for name, function in list(globals().items())
         if name.startswith("part_")}  # fmt: skip


def _path() -> str:
    """Where a child finds the project, installed or not."""
    return os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))


def _json(*command: str, env: dict[str, str] | None = None) -> dict:
    """What a program prints, or {"error": the end of what it complains}."""
    environment = {**os.environ, "PYTHONPATH": _path(), **(env or {})}
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        return json.loads(ran.stdout)
    except ValueError:
        return {"error": f"exit code {ran.returncode}", "output": ran.stdout[-1000:]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--dry", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("accelerator.json"))
    parser.add_argument("--data-dir", help="where CIFAR-10 lies, for the cell")
    parser.add_argument("--workers", type=int, nargs="+", default=[4, 8, 16], help="of the study")
    parser.add_argument("--cases", default="", help="of steps, those that fit this expression")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := [part for part in options.parts if part not in PARTS]:
        parser.error(f"no part {unknown[0]!r}; there is {', '.join(PARTS)}")
    if options.once:
        print(json.dumps(once(options)))
        return
    if options.inside:
        from cnnjax.core.environment import configure_xla

        configure_xla()
        print(json.dumps(PARTS[options.parts[0]](options)))
        return
    found: dict = {}
    for part in options.parts or PARTS:
        arguments = ["--inside", part, *(["--dry"] if options.dry else [])]
        arguments += ["--data-dir", options.data_dir] if options.data_dir else []
        arguments += ["--workers", *map(str, options.workers)]
        arguments += ["--cases", options.cases] if options.cases else []
        start = time.perf_counter()
        found[part] = _json(sys.executable, __file__, *arguments)
        found[part]["part_seconds"] = time.perf_counter() - start
        options.out.write_text(json.dumps(found, indent=2) + "\n")
        print(f"{part}: {found[part]['part_seconds']:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
