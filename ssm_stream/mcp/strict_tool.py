"""A tool that refuses arguments that it does not have: the SDK's own drops them, and the answer would be of all."""

from __future__ import annotations

import typing
from collections.abc import Callable
from typing import Any

from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.tools import Tool
from mcp.server.mcpserver.utilities.func_metadata import ArgModelBase
from mcp_types import ToolAnnotations
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

MAX_FOUND = 200
"""Characters of a wrong argument in an error."""


class _Strict(ArgModelBase):
    model_config = ConfigDict(extra="forbid")


class StrictTool(Tool):
    """A tool whose wrong arguments are named, with those that there are."""

    @classmethod
    def of(cls, function: Callable[..., Any], annotations: ToolAnnotations) -> StrictTool:
        """Return the tool that a function is; its description is the function's documentation."""
        made = cls.from_function(
            function, description=" ".join((function.__doc__ or "").split()), annotations=annotations
        )
        base = made.fn_metadata.arg_model
        if base.model_fields:  # to a tool without any, some clients send arguments of their own making
            strict = create_model(base.__name__, __base__=(_Strict, base))
            made.fn_metadata.arg_model = strict
            made.parameters = strict.model_json_schema(by_alias=True)
        assert isinstance(made, StrictTool)
        return made

    async def run(self, arguments: dict[str, Any], context: Any, convert_result: bool = False) -> Any:
        """Run the tool.

        Raises:
            ToolError: an argument is wrong, or what the SDK's own raises.
        """
        try:
            self.fn_metadata.validate_arguments(arguments)
        except ValidationError as error:
            lines = [self._explain(item) for item in error.errors()]
            raise ToolError(f"Error executing tool {self.name}: {'; '.join(dict.fromkeys(lines))}") from None
        return await super().run(arguments, context, convert_result)

    def _explain(self, item: Any) -> str:
        """Return what is wrong with an argument, and what would be right."""
        place, models = list(map(str, item["loc"])), _models(self.fn_metadata.arg_model)
        name = place[-1]
        if item["type"] == "extra_forbidden":
            inside = models.get(place[0]) if len(place) > 1 else self.fn_metadata.arg_model
            there = "" if inside is None else f"; there are {', '.join(inside.model_fields)}"
            within = [key for key, model in models.items() if len(place) == 1 and name in model.model_fields]
            cure = f'; write it within {within[0]}: {{"{within[0]}": {{"{name}": …}}}}' if within else there
            return f"there is no argument {'.'.join(place)!r}{cure}"
        found = "" if item["type"] == "missing" else f" (found {str(item['input'])[:MAX_FOUND]!r})"
        return f"{'.'.join(place)}: {item['msg']}{found}"


def _models(arguments: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """Return the arguments that have arguments of their own."""
    found = dict[str, type[BaseModel]]()
    for name, field in arguments.model_fields.items():
        for each in (field.annotation, *typing.get_args(field.annotation)):
            if isinstance(each, type) and issubclass(each, BaseModel):
                found[name] = each
    return found
