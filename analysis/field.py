"""``python -m analysis.field``: every method of ``stvit.reduce`` in one table, from the facts that its class states.

What each looks at, where it acts in a model of 12 layers (its default), what it keeps, whether it has weights of
its own to train, which program it equals or was written from, and that program's licence.

python -m analysis.field
python -m analysis.field --markdown     the table of the README
"""

from __future__ import annotations

import argparse

from analysis import formats
from analysis.commands import Parser, command


@command("analysis.field")
def main(argv: list[str] | None = None) -> int:
    from analysis.shared import field

    parser = Parser(
        prog="python -m analysis.field",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    formats.add_arguments(parser)
    args = parser.parse_args(argv)
    frame = field.table()
    if not formats.emit(frame, args):
        print(formats.render(frame))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
