import pytest

from cnnjax import Arm, Contrast, Preset, Refused, Study, small_images
from cnnjax.core.config import effective
from cnnjax.study.cells import resolve
from experiments.degradation import study as degradation


def mine(**changes):
    values = {
        "name": "mine",
        "question": "?",
        "source": "a test",
        "base": small_images,
        "factors": {
            "kind": {"plain": {"model.shortcut": "none"}, "residual": {"model.shortcut": "A"}},
            "depth": {"8": {"model.depth": 8}, "14": {"model.depth": 14}},
        },
        "seeds": 2,
        "metrics": ("train_error",),
        "contrasts": (Contrast("plain-8", "residual-8", "train_error"),),
        **changes,
    }
    return Study(**values)


def test_the_grid_is_the_product_and_cells_go_seed_by_seed():
    plan = resolve(mine())
    assert [v.name for v in plan.variants] == ["plain-8", "plain-14", "residual-8", "residual-14"]
    assert [cell.name for cell in plan.cells][:5] == [
        "plain-8-s0", "plain-14-s0", "residual-8-s0", "residual-14-s0", "plain-8-s1",
    ]  # fmt: skip
    variant = plan.variants[3]
    assert variant.levels == {"kind": "residual", "depth": "14"}
    assert variant.recipe.model.fields == {"width": 0.5, "depth": 14}  # "A" is the default


def test_a_cells_identity_is_its_recipe_and_seed():
    cell = resolve(mine()).cells[0]
    assert cell.folder == resolve(mine()).cells[0].folder
    other = resolve(mine(), settings=("optimizer.learning_rate=0.01",)).cells[0]
    assert other.name == cell.name
    assert other.folder != cell.folder


def test_arms_stand_beside_the_grid_with_their_own_seeds():
    arm = Arm({"kind": "plain", "depth": "14"}, {"time": {"3x": {"epochs": 45}}}, seeds=1)
    plan = resolve(mine(presets={"quick": Preset(arms=(arm,))}))
    assert plan.variants[-1].name == "plain-14-3x"
    assert plan.variants[-1].recipe.epochs == 45
    assert len(plan.cells) == 9


@pytest.mark.parametrize("preset", degradation.presets)
def test_every_preset_of_the_shipped_study_resolves(preset):
    plan = resolve(degradation, preset)
    assert len({v.name for v in plan.variants}) == len(plan.variants)
    if preset != "smoke":
        assert len(plan.variants) >= 6
        assert plan.seeds >= 8


def test_the_paper_preset_is_the_papers_recipe():
    recipe = resolve(degradation, "paper").base
    assert (recipe.data.name, recipe.batch_size, recipe.optimizer.learning_rate) == (
        "cifar10", 128, 0.1,
    )  # fmt: skip
    assert recipe.model.width == 1
    assert recipe.schedule.boundaries == (0.5, 0.75)
    assert recipe.epochs * (50_000 // 128) == pytest.approx(64_000, rel=0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"preset": "quik"}, "did you mean quick"),
        ({"settings": ("optimizer.learning_rat=1",)}, "did you mean optimizer.learning_rate"),
        ({"settings": ("epochs=-1",)}, "epochs=-1: must be 1 or more"),
        ({"settings": ("model.depth=20",)}, "model.depth is varied by factor depth"),
        ({"seeds": 0}, "must be 1 or more"),
    ],
)
def test_a_users_changes_are_checked(arguments, message):
    with pytest.raises(Refused, match=message):
        resolve(mine(), **arguments)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"contrasts": (Contrast("plain-8", "plain-9", "train_error"),)}, "did you mean plain-8"),
        ({"contrasts": (Contrast("plain-8", "plain-14"),)}, "no metric 'test_error'"),
        ({"metrics": ("top9",)}, "no metric of task classification .study mine. 'top9'"),
        ({"metrics": ()}, "needs a metric"),
        (
            {"factors": {"a": {"x": {"epochs": 15}, "y": {}}}, "contrasts": ()},
            "x and y have the same settings",
        ),
        ({"factors": {}}, "needs a factor"),
        ({"factors": {"a": {"x y": {}}}, "contrasts": ()}, "use letters"),
        ({"factors": {"a": {"x": {"model.dept": 1}}}, "contrasts": ()}, "did you mean model.depth"),
    ],
)
def test_an_impossible_study_is_refused(changes, message):
    with pytest.raises(Refused, match=message):
        resolve(mine(**changes))


@pytest.mark.parametrize("where", ["settings", "preset"])
def test_a_setting_that_a_factors_name_takes_away_is_refused(where):
    """A model's name brings fields of its own: the width would be lost without a word."""
    names = {"a": {"model.name": "cifar_resnet8"}, "b": {"model.name": "cifar_plain8"}}
    changes = {"factors": {"net": names}, "contrasts": ()}
    given = ("model.width=0.25",) if where == "settings" else ()
    if where == "preset":
        changes["presets"] = {"quick": Preset(settings={"model.width": 0.25})}
    with pytest.raises(Refused, match=r"model.width is varied by factor net"):
        resolve(mine(**changes), settings=given)


def test_a_setting_that_one_level_takes_away_is_refused():
    levels = {"sgd": {}, "adamw": {"optimizer.name": "adamw"}}
    changes = {"factors": {"by": levels}, "contrasts": ()}
    with pytest.raises(Refused, match=r"would not hold where by is adamw, which sets all of opt"):
        resolve(mine(**changes), settings=("optimizer.weight_decay=0.2",))
    levels["adamw"] = {"optimizer.name": "adamw", "optimizer.weight_decay": 0.2}
    plan = resolve(mine(**changes), settings=("optimizer.weight_decay=0.2",))
    decays = [effective(variant.recipe)["optimizer.weight_decay"] for variant in plan.variants]
    assert decays == [0.2, 0.2]


def test_an_arm_varies_what_a_level_that_it_fixes_may_overwrite():
    """Only what an arm itself varies could lose a setting there."""
    sizes = {"x": {"batch_size": 32}, "y": {"batch_size": 64}}
    changes = {
        "factors": {"by": {"slow": {"optimizer.learning_rate": 0.01}, "usual": {}}},
        "contrasts": (),
        "presets": {"quick": Preset(arms=(Arm(where={"by": "slow"}, factors={"size": sizes}),))},
    }
    plan = resolve(mine(**changes), settings=("optimizer.learning_rate=0.2",))
    assert [variant.name for variant in plan.variants] == ["slow", "usual", "slow-x", "slow-y"]
    with pytest.raises(Refused, match="batch_size is varied by factor size"):
        resolve(mine(**changes), settings=("batch_size=16",))


def test_a_group_of_settings_is_checked_by_its_names():
    with pytest.raises(Refused, match="no setting in schedule: 'nam'; did you mean name"):
        resolve(mine(presets={"quick": Preset(settings={"schedule": {"nam": "cosine"}})}))
