"""What several commands read from their options."""

from cnnjax.core.recipe import Model


def model_from(name: str, settings: tuple[str, ...]) -> Model:
    """The model `name` with what --set says.

    Raises:
      Refused: no such model or field; a setting that is not the model's.
    """
    from cnnjax.core.config import override_text
    from cnnjax.core.errors import Refused
    from cnnjax.core.recipe import Recipe
    from cnnjax.core.registry import find

    find(name)
    recipe = Recipe(model=Model(name))
    for assignment in settings:
        if not assignment.startswith("model."):
            raise Refused(f"--set {assignment}: only model.FIELD=VALUE counts here")
        recipe = override_text(recipe, assignment)
    return recipe.model
