"""The command that shows what a model is made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from wanrun.cli.attached import summary
from wanrun.cli.tables import first_lines, human_bytes, human_count, printable, section
from wanrun.errors import WanrunError
from wanrun.gguf.header import Header, read_header
from wanrun.gguf.sums import parameter_count, sums_by_type
from wanrun.modelfile import grammar
from wanrun.modelfile.adapters import layout_of
from wanrun.modelfile.document import AdapterLine, ComponentLine, Modelfile
from wanrun.modelfile.parameters import PARAMETERS, format_parameter
from wanrun.modelfile.spec import AdapterPart, Part, Spec
from wanrun.store.attachments import attached
from wanrun.store.creation import describe
from wanrun.store.digest import Digest
from wanrun.store.manifests import Layer
from wanrun.store.names import Name, parse_name
from wanrun.store.store import open_store
from wanrun.types import EXPERTS, ROLES
from wanrun.wan.detect import Identity, identify

#: What can be shown of a model; ``info`` is about all of it.
PARTS = ("info", "parameters", "modelfile", "license", "system", "template")


@dataclass(frozen=True, slots=True)
class _File:
    """A component; None for what cannot be read here, because it lies elsewhere or is damaged."""

    part: Part
    header: Header | None
    identity: Identity | None


@click.command()
@click.argument("name")
@click.option("--license", "what", flag_value="license", multiple=True, help="Show the license.")
@click.option("--modelfile", "what", flag_value="modelfile", multiple=True, help="Show a Modelfile of it.")
@click.option("--parameters", "what", flag_value="parameters", multiple=True, help="Show the parameters.")
@click.option("--system", "what", flag_value="system", multiple=True, help="Show the system text.")
@click.option("--template", "what", flag_value="template", multiple=True, help="Show the template.")
def show(name: str, what: tuple[str, ...]) -> None:
    """Show what the model NAME is made of; models of the shipped library are shown as well."""
    if len(what) > 1:
        flags = "'--license', '--modelfile', '--parameters', '--system', or '--template'"
        raise click.UsageError(f"only one of {flags} can be specified")
    click.echo(text(name, what[0] if what else "info"), nl=False)


def text(name: str, what: str) -> str:
    """What ``show`` prints of the model: one of PARTS."""
    parsed = parse_name(name)
    spec = describe(open_store(), parsed)
    if what == "info":
        return "\n".join(_sections(spec, attached(open_store(), parsed))) + "\n"
    found = {
        "license": "\n".join(spec.licenses),
        "modelfile": _modelfile(parsed, spec),
        "parameters": "\n".join(f"{key:<17}{value}" for key, value in _parameters(spec)),
        "system": spec.system or "",
        "template": spec.template or "",
    }[what]
    return found if found.endswith("\n") else f"{found}\n"


def _sections(spec: Spec, attachments: Iterable[tuple[Layer, bytes]]) -> Iterator[str]:
    files = {role: _open(spec.components[role]) for role in ROLES if role in spec.components}
    yield section("Model", _model_rows(spec, files))
    components = [(role.replace("_", " "), *_component(file)) for role, file in files.items()]
    yield section("Components", components)
    if spec.adapters:
        experts = {role: file for role, file in files.items() if role in EXPERTS}
        yield section("Adapters", [_adapter(part, experts) for part in spec.adapters])
    if spec.parameters:
        yield section("Parameters", _parameters(spec))
    yield from (section(*summary(layer, data)) for layer, data in attachments)
    texts = (("Template", spec.template), ("Negative", spec.negative), ("System", spec.system))
    for title, text in (*texts, *(("License", text) for text in spec.licenses)):
        if text:
            yield section(title, first_lines(text))


def _open(part: Part) -> _File:
    try:
        header = read_header(Path(part.reference))
    except WanrunError:
        return _File(part, None, None)
    return _File(part, header, identify(header))


def _model_rows(spec: Spec, files: dict[str, _File]) -> list[tuple[str, str]]:
    experts = [file for role, file in files.items() if role in EXPERTS]
    headers = [file.header for file in experts if file.header is not None]
    rows = [("experts", str(len(experts)))]
    if headers and len(headers) == len(experts):
        identity = identify(headers[0])
        rows = [
            ("variant", _variant(identity.variant, len(experts))),
            *rows,
            ("parameters", human_count(sum(map(parameter_count, headers)))),
            ("width", str(identity.width)),
            ("layers", str(identity.layers)),
            ("latent channels", str(identity.latent_channels)),
            ("text width", str(identity.text_width)),
            ("quantization", ", ".join(sorted({sums_by_type(header)[0].type for header in headers}))),
        ]
    return rows + ([("requires", spec.requires)] if spec.requires else [])


def _variant(variant: str, experts: int) -> str:
    """The two models of the same shapes are told apart by the number of experts."""
    choices = variant.split(" or ")
    return choices[0] if experts == 2 else choices[-1]


def _component(file: _File) -> tuple[str, ...]:
    if file.header is None or file.identity is None:
        return (file.part.origin, "not here" if not Path(file.part.reference).exists() else "damaged")
    digest = Digest.of_file_name(file.header.path.name)
    size = file.header.path.stat().st_size
    kind = sums_by_type(file.header)[0].type if file.header.tensors else "-"
    return (file.part.origin, file.identity.variant, kind, human_bytes(size), digest.short if digest else "-")


def _adapter(part: AdapterPart, experts: dict[str, _File]) -> tuple[str, ...]:
    """Expert, name, scale, and what of the file is left out, if anything is."""
    row = (part.role.replace("_", " ") or "all experts", part.origin, f"scale {part.scale:g}")
    path = Path(part.reference)
    expert = next((file.header for role, file in experts.items() if part.role in ("", role)), None)
    if not path.exists():
        return (*row, "not here")
    try:
        note = None if expert is None else layout_of(read_header(path), expert).note
    except WanrunError:
        return (*row, "damaged")
    digest = Digest.of_file_name(path.name)
    found = (*row, human_bytes(path.stat().st_size), digest.short if digest else "-")
    return found if note is None else (*found, note)


def _parameters(spec: Spec) -> list[tuple[str, str]]:
    return [(name, format_parameter(spec.parameters[name])) for name in PARAMETERS if name in spec.parameters]


def _modelfile(name: Name, spec: Spec) -> str:
    """A Modelfile that makes the same model on this machine."""
    lines = tuple(
        ComponentLine(role, spec.components[role].reference) for role in ROLES if role in spec.components
    )
    modelfile = Modelfile(
        components=lines,
        adapters=tuple(AdapterLine(part.reference, part.role or None, part.scale) for part in spec.adapters),
        parameters=spec.parameters,
        template=spec.template,
        negative=spec.negative,
        system=spec.system,
        licenses=spec.licenses,
        requires=spec.requires,
    )
    files = "".join(f"#   {role}: {printable(part.origin)}\n" for role, part in spec.components.items())
    files += "".join(f"#   adapter: {printable(part.origin)}\n" for part in spec.adapters)
    return (
        f'# Made by "wanrun show {name} --modelfile" from\n{files}'
        f"# To build on this model, put this in place of the lines that name files:\n# FROM {name}\n\n"
        f"{grammar.dump(modelfile)}"
    )
