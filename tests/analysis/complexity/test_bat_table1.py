"""BAT's Table 1 has a count for each of its rows."""

from analysis import complexity
from analysis.shared.flops.closed_global import deit


def test_every_row_is_counted():
    table = complexity.compute("bat_table1").set_index("model")
    assert len(table) == 23 and table.counted.notna().all()
    for size, width in {"T": 192, "S": 384, "B": 768}.items():
        assert table.counted[f"DeiT-{size}"] == deit(width).total / 1e9
        assert (table.counted.filter(like=f"-DeiT-{size}") <= 1.001 * table.counted[f"DeiT-{size}"]).all()
    reproduced = table.digit_reproduced
    assert reproduced["Evo-ViT-DeiT-S"] and reproduced["Evo-ViT-DeiT-T"]
    assert not reproduced["A-ViT-DeiT-S"] and table.program_runs["A-ViT-DeiT-S"] == 4.598882304


def test_masking_programs_run_all_of_deit_and_ours_do_not():
    table = complexity.compute("rivals").set_index("method")
    masked = table.loc[["avit", "iared2", "spvit", "svite", "shrinking"]]
    assert (masked.rebuilt >= deit(384).without("norms") / 1e9).all()
    assert (masked.counted + masked.reduction < masked.rebuilt).all()
