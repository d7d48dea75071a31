"""LeNet-5's table of connections between S2 and C3 against all of them, and against chance.

LeCun et al. 1998 (section II.B, table I): not every map of S2 feeds every map of C3, to keep
connections few and to break the symmetry between the maps. If it is the choice that matters, tables
of as many connections at random are worse.
Run: cnnjax study run lenet_connections
"""

from cnnjax import Contrast, Preset, Study, lecun1998

TABLES = {
    "table_i": {"model.connections": "table_i"},
    "full": {"model.connections": "full"},
    "random0": {"model.connections": "random", "model.connection_seed": 0},
    "random1": {"model.connections": "random", "model.connection_seed": 1},
}


def claims(bound: float) -> tuple[Contrast, ...]:
    """Nothing is lost by the table, and nothing is in its choice; declared before the run."""
    return tuple(
        Contrast(table, "table_i", "test_error", "equal", bound)
        for table in ("full", "random0", "random1")
    )


study = Study(
    name="lenet_connections",
    question="Does it matter which maps of S2 each map of C3 sees?",
    source="LeCun et al. 1998, Proc. IEEE 86(11), section II.B, table I",
    base=lecun1998,
    factors={"connections": TABLES},
    seeds=8,  # three equalities, nine statements
    metrics=("test_error", "train_error"),
    contrasts=claims(0.3),
    presets={
        "smoke": Preset(
            about="seconds, for tests: two tables, 2 seeds, 2 epochs",
            settings={"data.name": "digits", "epochs": 2},
            factors={"connections": {name: TABLES[name] for name in ("table_i", "full")}},
            seeds=2,
            contrasts=claims(1.0)[:1],
        ),
        "quick": Preset(
            about="minutes on two cores: digits, 40 epochs, 8 seeds",
            settings={"data.name": "digits", "epochs": 40},
            contrasts=claims(1.0),
        ),
        "paper": Preset(about="an hour on two cores: MNIST, 20 epochs, 8 seeds"),
    },
)

if __name__ == "__main__":
    from cnnjax import study_command

    study_command(study)
