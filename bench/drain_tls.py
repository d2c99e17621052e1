"""The same programs as in drain, over TLS, as the real SQS is reached."""

from __future__ import annotations

from typing import Any

from bench import drain, markdown
from bench.drain import BARE, COPY
from bench.services import Options
from bench.stub import Network

RATIOS = {"drain_tls.copy_over_bare": (COPY, BARE, "≤ 0.22")}


def measure(options: Options) -> dict[str, Any]:
    """Drain the queue with both programs in turns."""
    part = drain.drained(options, (BARE, COPY), Network(tls=True))
    return {**part, "ratios": drain.ratios(part, RATIOS)}


METHOD = """\
Measured like `drain`: each program drains a queue of {sizes}.
The stub queue has a certificate of its own, which the programs trust by AWS_CA_BUNDLE, and they
check it as they check that of SQS. The handshake counts as part of the start. The chart of `drain`
has these bars too."""


def show(part: dict[str, Any]) -> list[str]:
    """Return the part as lines of Markdown."""
    return [
        METHOD.format(sizes=drain.sizes(part)),
        "",
        *drain.table(part),
        "",
        *markdown.table(
            ["ratio of CPU per message", "measured", "target"], drain.ratio_rows(part, RATIOS)
        ),
    ]
