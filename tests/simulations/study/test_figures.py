"""Figures of the study: what is drawn, in which order, and that no words overlap."""

import itertools
import math

import pytest
from matplotlib import colors
from matplotlib.backends.backend_agg import FigureCanvasAgg

from simulations.study import figures
from simulations.study.statistics import GAIN, LOSS, NEITHER

FAMILIES = (
    "multistep_arithmetic",
    "dyck_languages",
    "tracking_shuffled_objects",
    "logical_deduction",
    "coloured_objects",
    "boolean_expressions",
    "causal_judgement",
    "formal_logic",
)
TEACHERS = ("byte", "bpe", "packed")
WORDS = {
    "labels": "labels alone",
    "sequence": "labels and the teacher's answers",
    "kl": "labels, answers and KL of next bytes",
}


def gain(arm, against, mean, half=0.02):
    verdict = GAIN if mean > half else LOSS if mean < -half else NEITHER
    ends = {"low": mean - half, "high": mean + half}
    found = {"arm": arm, "against": against, "gain": mean, "verdict": verdict}
    return found | ends


GAINS = [
    gain("before", "labels", -0.5),
    gain("uld", "labels", 0.01),
    gain("sequence", "labels", 0.15),
    gain("kl", "labels", 0.05, half=math.nan),
    gain("constant", "labels", -0.05),
    gain("gw", "labels", math.nan, half=math.nan),
    gain("labels", "sequence", -0.15),
    gain("uld", "sequence", -0.14),
]


def drawn(figure):
    FigureCanvasAgg(figure).draw()
    return figure


def words_of(figure):
    """All visible words that stand outside of panels, with the box of each."""
    drawn(figure)
    artists = list(figure.legends)
    for axes in figure.axes:
        artists += [axes.title, axes.xaxis.label, axes.yaxis.label]
        x, y = axes.get_xlim(), axes.get_ylim()
        for axis, limits in ((axes.xaxis, x), (axes.yaxis, y)):
            low, high = sorted(limits)
            ticks = axis.get_major_ticks()
            artists += [t.label1 for t in ticks if low <= t.get_loc() <= high]
    for artist in artists:
        text = "legend" if artist in figure.legends else artist.get_text()
        box = artist.get_window_extent()
        if text and artist.get_visible() and box.width:
            yield text, box


def check_words(figure):
    """Words are inside the figure, and none lies on another."""
    found = list(words_of(figure))
    width, height = figure.canvas.get_width_height()
    for text, box in found:
        assert box.x0 >= -1, text
        assert box.x1 <= width + 1, text
        assert box.y0 >= -1, text
        assert box.y1 <= height + 1, text
    for (a, one), (b, other) in itertools.combinations(found, 2):
        assert not one.overlaps(other), f"{a!r} lies on {b!r}"


def legend_of(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def saying_nothing(figure):
    return [any(t.get_text() == "not recorded" for t in a.texts) for a in figure.axes]


def test_bars_are_sorted_by_their_gain_over_labels():
    figure = figures.bars_with_intervals(GAINS, WORDS)
    check_words(figure)
    labels, sequence = figure.axes
    titles = [axes.get_title() for axes in (labels, sequence)]
    assert titles == [f"gain over\n{WORDS[name]}" for name in ("labels", "sequence")]
    names = [label.get_text() for label in labels.get_yticklabels()]
    # The student before and what is not recorded are left out.
    expected = ["constant", "labels alone", "uld", WORDS["kl"], WORDS["sequence"]]
    assert names == expected
    bars = {round(bar.get_y() + 0.35): bar for bar in labels.patches}
    widths = {place: bar.get_width() for place, bar in bars.items()}
    assert widths == pytest.approx({0: -5, 2: 1, 3: 5, 4: 15})
    by_place = {0: LOSS, 2: NEITHER, 4: GAIN}
    for place, verdict in by_place.items():
        assert (
            colors.to_hex(bars[place].get_facecolor()).upper()
            == (figures.COLOURS[verdict])
        )
    assert [round(bar.get_width()) for bar in sequence.patches] == [-15, -14]
    assert legend_of(figure) == [GAIN, NEITHER, LOSS, "95 % interval over seeds"]


def test_intervals_are_drawn_where_there_are_any():
    labels = figures.bars_with_intervals(GAINS).axes[0]
    (lines,) = labels.containers[1].lines[2]
    ends = sorted(tuple(segment[:, 0]) for segment in lines.get_segments())
    assert ends == [pytest.approx(e) for e in ((-7, -3), (-1, 3), (13, 17))]


def test_primary_comparisons_are_rows_of_marks_with_their_intervals():
    halves = {"dyck_languages": 0.02, "formal_logic": 0.03, "mean": math.nan}
    means = {"uld": (0.1, -0.2, 0.0), "kl": (0.3, 0.2, 0.25)}
    rows = [
        gain(arm, "labels", mean, half=halves[family]) | {"family": family}
        for arm, of_arm in means.items()
        for family, mean in zip(halves, of_arm, strict=True)
    ]
    figure = figures.primary_comparisons(rows, WORDS)
    (axes,) = figure.axes
    assert legend_of(figure) == ["dyck languages", "formal logic", "mean"]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names[1] == "labels, answers and KL of next bytes\nagainst labels alone"
    marks = {line.get_label(): line for line in axes.lines}
    assert marks["formal logic"].get_xdata() == pytest.approx([-20.0, 20.0])
    first, second = marks["dyck languages"].get_ydata()
    assert second - first == 1
    line = axes.lines[1]
    assert line.get_xdata() == pytest.approx([8.0, 12.0])
    assert line.get_ydata() == pytest.approx([first, first])
    assert axes.yaxis_inverted()
    check_words(figure)


def history(arms=figures.DRAWN_ARMS):
    for arm, seed, step in itertools.product(arms, range(2), (1, 10, 100)):
        fused = {"uld": "uld" in arm, "graph": "gld" in arm}
        row = {"family": FAMILIES[0], "arm": arm, "seed": seed, "step": step}
        for term in figures.TERMS:
            value = (seed + 1) * 10 / step if fused.get(term, True) else math.nan
            row |= {term: value, f"gradient_{term}": 5.0 + seed}
        yield row


def test_losses_are_means_over_seeds_with_their_range():
    words = {"labels": "labels alone", "uld_gld": "ULD + GLD"}
    figure = figures.losses_over_steps(list(history()), FAMILIES[0], words=words)
    check_words(figure)
    expected = ["labels alone", "uld", "gld", "ULD + GLD", "range over seeds"]
    assert legend_of(figure) == expected
    sft, uld, graph = figure.axes[:3]
    assert [len(axes.lines) for axes in (sft, uld, graph)] == [4, 2, 2]
    assert sft.lines[0].get_xdata().tolist() == [1, 10, 100]
    assert sft.lines[0].get_ydata() == pytest.approx([15, 1.5, 0.15])
    assert {axes.get_yscale() for axes in figure.axes[:3]} == {"log"}
    assert {axes.get_yscale() for axes in figure.axes[3:]} == {"linear"}
    assert uld.get_ylabel() == "loss\n(logits)"
    other = figures.losses_over_steps(list(history()), "formal_logic")
    assert saying_nothing(other) == [True] * 6
    check_words(other)


def test_terms_that_no_arm_has_say_so():
    figure = figures.losses_over_steps(list(history(["labels"])), FAMILIES[0])
    assert saying_nothing(figure)[:3] == [False, True, True]


def test_points_stand_below_their_correlation(rng):
    points = [
        {"family": family, "kl": kl, "gld": 3 * kl**2}
        for family in FAMILIES
        for kl in rng.uniform(0.01, 3, 5)
    ]
    figure = figures.gld_against_kl([*points, {"kl": math.nan, "gld": 1.0}])
    check_words(figure)
    (axes,) = figure.axes
    title = axes.get_title()
    assert title.startswith("Spearman 1.00 (95 %: 1.00 … 1.00)\nPearson 0.9")
    assert title.endswith("40 points")
    assert sum(len(marks.get_offsets()) for marks in axes.collections) == 40
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert legend_of(figure) == [family.replace("_", " ") for family in FAMILIES]
    few = figures.gld_against_kl([{"kl": 0.0, "gld": 1.0}, {"kl": 1.0, "gld": 2.0}])
    assert few.axes[0].get_xscale() == "linear"
    assert (
        few.axes[0].get_title() == "Spearman not defined\nPearson not defined, 2 points"
    )
    assert saying_nothing(figures.gld_against_kl([])) == [True]


def distances():
    return [
        {"family": family, "teacher": teacher, "distance": 1.0 + i + 0.1 * j}
        for i, family in enumerate(FAMILIES)
        for j, teacher in enumerate(TEACHERS)
    ]


def gains_of(rows, half=0.01):
    found = []
    for row in rows:
        mean = 0.2 - 0.03 * row["distance"]
        ends = {"least": mean - half, "most": mean + half}
        found.append(row | {"gain": mean} | ends)
    return found


def test_distances_stand_beside_what_teachers_teach():
    rows = distances()
    figure = figures.distance_against_transfer(rows[:-1], gains_of(rows))
    check_words(figure)
    heatmap, scatter, bar = figure.axes
    texts = [text.get_text() for text in heatmap.texts]
    assert texts[:3] == ["1", "1.1", "1.2"]
    assert texts[-1] == "–"
    assert bar.get_ylabel() == "structural distance"
    # The gain without a distance is left out.
    assert scatter.get_title().endswith("23 points")
    assert scatter.get_title().startswith("Spearman -1.00")
    # Of each point a mark and its range, and the line of no gain.
    assert len(scatter.lines) == 2 * 23 + 1
    named = legend_of(figure)
    assert named[:3] == ["teacher byte", "teacher bpe", "teacher packed"]
    assert len(named) == 3 + 8 + 1


def test_nothing_to_draw_is_no_error():
    for empty in (
        figures.distance_against_transfer([], []),
        figures.bars_with_intervals([]),
    ):
        assert saying_nothing(empty) == [True, True]
        check_words(empty)
