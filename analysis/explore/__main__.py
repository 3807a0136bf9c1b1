"""``python -m analysis.explore``: look into a model by hand, as one HTML file that needs nothing else.

python -m analysis.explore --html out.html
python -m analysis.explore --model vit_small_patch16_224 --image holiday.jpg --methods bat tome --html out.html

Choose method, layer, head and token; see where a token's patches went, what each token holds, who looks at whom, and
what is lost as the keep rate falls. Hide or merge patches and see what it changes. In JupyterLab:
from analysis.explore import explore; explore("dinov2_small", "astronaut")
"""

from __future__ import annotations

from analysis.commands import Parser, at_least, command, new_file, write_text


@command("analysis.explore")
def main(argv: list[str] | None = None) -> int:
    parser = Parser(prog="python -m analysis.explore", description=__doc__)
    parser.add_argument(
        "--model", default="dinov2_small", help="dinov2_small, a timm model, a checkpoint's folder"
    )
    parser.add_argument(
        "--image", default="astronaut", help="a file, or a photograph of the packages (astronaut)"
    )
    parser.add_argument("--size", type=at_least(14), help="pixels of the image's side (the model's own)")
    parser.add_argument(
        "--methods", nargs="+", metavar="METHOD", help="default: five that need no training, and STViT"
    )
    parser.add_argument("--hide-at", type=at_least(1), metavar="LAYER",
                        help="the layer in front of which patches are hidden and merged (the middle one)")  # fmt: skip
    parser.add_argument(
        "--html", type=new_file, default="explore.html", help="where to write it (explore.html)"
    )
    args = parser.parse_args(argv)

    from analysis.explore import pack
    from analysis.explore.state import check_methods, look

    dense = look(args.model, args.image, args.size)
    depth = len(dense.model.blocks)
    layer = args.hide_at or depth // 2 + 1
    if layer > depth:
        raise ValueError(f"--hide-at is {layer}; {dense.subject.name} has {depth} layers")
    write_text(pack.page(dense, layer, check_methods(dense, args.methods)), args.html)
    if args.html != "-":
        print(args.html)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
