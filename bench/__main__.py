"""Everything: all data sets, then threads, filters and calls, the gate, the pictures.

python -m bench             about an hour; tables and plots go to docs/benchmarks
python -m bench --quick     a small run of everything; they go beside the figures
python -m bench OPTIONS     bench.index with these options, then the same
python -m bench --draw      tables and plots of what has been measured by parts
"""

from __future__ import annotations

import sys
from pathlib import Path

from . import aspects, datasets, gate_g1, index, plot, report, targets

DOCS = datasets.ROOT / "docs" / "benchmarks"


def main() -> None:
    arguments = sys.argv[1:]
    folder = DOCS if arguments in ([], ["--draw"]) else index.OUT / "drawn"
    if arguments != ["--draw"]:
        index.main(arguments)
    if arguments == ["--quick"]:
        small = ["--n", "20000", "--queries", "200", "--rounds", "1"]
        aspects.main(small)
        gate_g1.main([*small, "--dataset", "embedding-like"])
    elif not arguments:
        aspects.main([])
        gate_g1.main([])
    draw(sorted(index.OUT.glob("*.json")), folder)


def draw(files: list[Path], folder: Path) -> None:
    """Pictures, and a page with them, the aims and all tables."""
    pictures = plot.draw_all(files, folder)
    result = report.load(files)
    page = ["# What `make bench` measured", "", *report.about(result), "", "## Aims", ""]
    page += [*targets.table(result), ""]
    page += [f"![{picture.stem}]({picture.name})" for picture in pictures]
    page += [report.tables(result), ""]
    (folder / "README.md").write_text("\n".join(page))
    print("\n".join(targets.table(result)))


if __name__ == "__main__":
    main()
