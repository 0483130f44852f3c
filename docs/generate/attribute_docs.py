"""Docstrings under the attributes of a class, which Python itself does not keep."""

import ast
import inspect
import itertools
import textwrap


def attribute_docs(owner: type) -> dict[str, str]:
    """Attribute name -> the text under it, or its line in the class's "Attributes:" section."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(owner)))
    body = next(node for node in tree.body if isinstance(node, ast.ClassDef)).body
    found = _attributes_section(inspect.getdoc(owner) or "")
    for node, after in itertools.pairwise(body):
        if (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
            and isinstance(after.value.value, str)
        ):
            found[node.target.id] = inspect.cleandoc(after.value.value)
    return found


def _attributes_section(docstring: str) -> dict[str, str]:
    """Entries of a Google style "Attributes:" section; further lines of an entry are joined."""
    found: dict[str, str] = {}
    inside, name = False, ""
    for line in docstring.splitlines():
        if line.strip() == "Attributes:":
            inside = True
        elif inside and line and not line.startswith(" "):
            break
        elif inside and line.startswith("    ") and not line.startswith("     "):
            name, _, text = line.strip().partition(":")
            found[name] = text.strip()
        elif inside and name:
            found[name] = f"{found[name]} {line.strip()}".strip()
    return found
