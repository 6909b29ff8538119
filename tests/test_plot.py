"""Pictures: what is drawn where, and what is refused before anything is."""

import networkx as nx
import numpy as np
import pytest

import gwtools as gw
from tests.libraries import LIBRARIES

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("agg")


@pytest.fixture(autouse=True)
def closed():
    yield
    matplotlib.pyplot.close("all")


@pytest.fixture(scope="module")
def pair():
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.full(7, 3.0))
    x = gw.PointCloud(rng.standard_normal((7, 2)), weights)
    return x, gw.GraphSpace(nx.cycle_graph(9))


@pytest.fixture(scope="module")
def result(pair):
    return gw.solve(*pair, gw.MultiStart(starts=6))


def test_bars_end_where_certificates_do(result):
    ax = gw.plot.certificate({"found": result, "again": result.certificate})
    proved, still_open = ax.patches[:2]
    assert proved.get_width() == result.certificate.lower
    assert still_open.get_x() == result.certificate.lower
    ends = still_open.get_x() + still_open.get_width()
    assert ends == pytest.approx(result.certificate.upper)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["found", "again"]
    assert "squared units of C" in ax.get_xlabel()
    assert len(gw.plot.certificate(result).patches) == 2


def test_every_mark_of_an_interval_is_in_the_legend_once(result):
    ax = gw.plot.certificate({"found": result, "again": result})
    (legend,) = ax.figure.legends
    words = [text.get_text() for text in legend.get_texts()]
    assert sorted(words) == ["objective of a plan", "open", "proved: no plan is below"]
    given = matplotlib.pyplot.subplots()[1]
    gw.plot.certificate(result, given)
    assert sorted(given.get_legend_handles_labels()[1]) == sorted(words)
    assert not given.figure.legends


@pytest.mark.parametrize("library", LIBRARIES, ids=str)
def test_masses_of_a_plan_are_its_colours(library):
    a, b = np.array([0.5, 0.25, 0.25]), np.full(5, 0.2)
    with library.active():
        ax = gw.plot.coupling(gw.DensePlan(library.array(np.outer(a, b))))
        (image,) = ax.images
        masses = np.asarray(image.get_array())
    assert masses.shape == (3, 5)
    assert masses == pytest.approx(np.outer(a, b), rel=library.rtol)
    bar = ax.figure.axes[1]
    assert bar.get_ylabel() == "mass"


def test_names_are_shown_where_they_fit(pair, result):
    names = [f"town {i}" for i in range(7)], list("abcdefghi")
    ax = gw.plot.coupling(result, names=names)
    assert [label.get_text() for label in ax.get_yticklabels()] == names[0]
    assert [label.get_text() for label in ax.get_xticklabels()] == names[1]
    large = gw.plot.distances(np.zeros((41, 41)), names=range(41))
    assert len(large.get_yticks()) < 41


def test_lines_are_the_pairs_of_the_plan(pair, result):
    ax = gw.plot.matching(*pair, result)
    masses = result.plan.sparse().data
    drawn = masses >= masses.max() / 100
    assert len(ax.lines) == drawn.sum()
    left, right = (points.get_offsets() for points in ax.collections)
    assert (len(left), len(right)) == (7, 9)
    # The cloud is drawn as it is, up to its scale.
    points = np.asarray(pair[0].points)
    scale = np.ptp(points, axis=0).max()
    shape = (points - points[0]) / scale
    assert np.asarray(left - left[0]) == pytest.approx(shape, abs=1e-12)
    assert right[:, 0].min() > left[:, 0].max()


def test_atoms_that_a_partial_plan_leaves_out_are_hollow():
    x = gw.PointCloud(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]]))
    y = gw.PointCloud(np.array([[0.0, 0.0], [1.0, 0.0], [9.0, 9.0], [8.0, 0.0]]))
    plan = np.zeros((3, 4))
    plan[0, 0] = plan[1, 1] = 0.25
    ax = gw.plot.matching(x, y, gw.DensePlan(plan))
    assert [len(points.get_offsets()) for points in ax.collections] == [2, 1, 2, 2]
    filled = [bool(len(points.get_facecolor())) for points in ax.collections]
    assert filled == [True, False, True, False]
    assert len(ax.lines) == 2


def test_fewer_lines_are_pairs_from_the_first_atom_to_the_last(pair, result):
    every = gw.plot.matching(*pair, result).lines
    few = gw.plot.matching(*pair, result, lines=4).lines
    ends = [line.get_xydata().tolist() for line in every]
    drawn = [line.get_xydata().tolist() for line in few]
    assert len(drawn) == 4
    assert [drawn[0], drawn[-1]] == [ends[0], ends[-1]]
    assert all(line in ends for line in drawn)
    assert len(gw.plot.matching(*pair, result, lines=0).lines) == 0
    assert len(gw.plot.matching(*pair, result, lines=10**6).lines) == len(every)


def test_marks_of_many_atoms_are_small():
    few = gw.PointCloud(np.random.default_rng(3).standard_normal((300, 2)))
    many = gw.PointCloud(np.random.default_rng(3).standard_normal((1200, 2)))
    plan = gw.DensePlan(np.full((300, 1200), 1 / 360_000))
    full, small = gw.plot.matching(few, many, plan, lines=0).collections
    assert full.get_sizes().max() == pytest.approx(30)
    assert small.get_sizes().max() == pytest.approx(7.5)


def test_restarts_that_return_are_told_from_starts_that_agree():
    rng = np.random.default_rng(0)
    x, y = (gw.PointCloud(rng.standard_normal((12, 2))) for _ in range(2))
    result = gw.solve(x, y)
    ax = gw.plot.starts(result)
    shown = {line.get_label(): len(line.get_xdata()) for line in ax.lines[:-1]}
    reached = [start for start in result.starts if start.reached]
    returned = [start for start in reached if not start.independent]
    assert 0 < len(returned) < len(reached)
    assert shown["returned to the best"] == len(returned)
    assert shown["ended at the best"] == len(reached) - len(returned)
    assert shown["ended elsewhere"] == len(result.starts) - len(reached)


def test_distances_in_the_plane_are_drawn_to_scale():
    """Classical scaling of Euclidean distances gives the points back."""
    rng = np.random.default_rng(1)
    points = rng.standard_normal((8, 2))
    cloud = gw.PointCloud(points)
    weights = rng.dirichlet(np.full(8, 3.0))
    space = gw.DenseSpace(np.asarray(cloud.dense()), weights)
    ax = gw.plot.matching(space, space, np.diag(weights))
    left = np.asarray(ax.collections[0].get_offsets())
    found = np.linalg.norm(left[:, None] - left, axis=2)
    ratio = found[0, 1] / np.asarray(cloud.dense())[0, 1]
    assert found == pytest.approx(ratio * np.asarray(cloud.dense()), abs=1e-9)


@pytest.mark.parametrize("dimensions", [1, 5])
def test_clouds_of_any_dimension_and_single_atoms_are_drawn(dimensions):
    rng = np.random.default_rng(2)
    x = gw.PointCloud(rng.standard_normal((4, dimensions)))
    y = gw.PointCloud(np.zeros((1, 3)))
    ax = gw.plot.matching(x, y, np.full((4, 1), 0.25))
    assert len(ax.lines) == 4
    assert np.isfinite(ax.collections[1].get_offsets()).all()


def test_steps_and_starts_stand_above_what_is_proved(result):
    ax = gw.plot.history(result)
    objectives = [step.objective for step in result.history]
    assert ax.lines[0].get_ydata().tolist() == objectives
    lower = ax.lines[1].get_ydata()
    assert list(lower) == [result.certificate.lower] * 2
    ax = gw.plot.starts(result)
    shown = sum(len(line.get_xdata()) for line in ax.lines[:-1])
    assert shown == len(result.starts)
    first = min(line.get_ydata().min() for line in ax.lines[:-1])
    assert first == pytest.approx(result.starts.best.objective)


def test_what_branch_and_bound_proves_is_drawn_box_by_box():
    rng = np.random.default_rng(0)
    x, y = (
        gw.PointCloud(rng.standard_normal((n, 2)), metric="sqeuclidean") for n in (7, 9)
    )
    found = gw.solve(x, y, gw.BranchAndBound())
    objectives, lower = gw.plot.history(found).lines
    assert objectives.get_ydata().tolist() == [s.objective for s in found.history]
    assert lower.get_ydata().tolist() == [step.lower for step in found.history]
    assert lower.get_label() == "proved: no plan is below"


def test_the_matrix_of_a_space_is_drawn_as_its_own(pair):
    ax = gw.plot.distances(pair[1])
    (image,) = ax.images
    assert np.asarray(image.get_array()) == pytest.approx(pair[1].dense(), abs=0)
    assert ax.figure.axes[1].get_ylabel() == "C"


def test_values_are_written_into_cells_and_unknown_ones_left_out():
    values = np.array([[0.12345, 2.0, np.nan], [1.5, 0.0, 0.25]])
    ax = gw.plot.distances(values, None, "ab", ["one", "two", "three"], numbers=True)
    wanted = ["0.123", "2", "–", "1.5", "0", "0.25"]
    assert [text.get_text() for text in ax.texts] == wanted
    assert ax.texts[1].get_color() == "black"
    assert ax.texts[4].get_color() == "white"
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]
    assert [label.get_text() for label in ax.get_xticklabels()] == [
        "one",
        "two",
        "three",
    ]
    assert not gw.plot.distances(values).texts
    unknown = gw.plot.distances(np.full((2, 2), np.nan), numbers=True)
    assert [text.get_text() for text in unknown.texts] == ["–"] * 4
    unknown.figure.canvas.draw()


def test_given_axes_are_drawn_into(result):
    figure, axes = matplotlib.pyplot.subplots(1, 2)
    assert gw.plot.history(result, axes[0]) is axes[0]
    assert gw.plot.certificate(result, axes[1]) is axes[1]
    assert len(figure.axes) == 2


def test_what_cannot_be_drawn_is_refused(pair, result):
    sorted_result = gw.solve(*pair, gw.Sorted())
    with pytest.raises(ValueError, match="must have steps in its history"):
        gw.plot.history(sorted_result)
    with pytest.raises(ValueError, match=r"solve with gwtools.MultiStart\(\)"):
        gw.plot.starts(sorted_result)
    with pytest.raises(TypeError, match=r"gwtools.Certificate or gwtools.GWResult"):
        gw.plot.certificate(0.5)
    with pytest.raises(TypeError, match="ax must be axes of matplotlib, but is 3"):
        gw.plot.coupling(result, ax=3)
    with pytest.raises(ValueError, match=r"names\[0\] must have a name for each of 7"):
        gw.plot.coupling(result, names=("ab", range(9)))
    with pytest.raises(ValueError, match="lines must be an integer at least 0"):
        gw.plot.matching(*pair, result, lines=-1)
    with pytest.raises(ValueError, match="names must have a name for each of 2"):
        gw.plot.distances(np.zeros((2, 2)), names=["one"])
    with pytest.raises(ValueError, match="columns must have a name for each of 3"):
        gw.plot.distances(np.zeros((2, 3)), columns=["one"])
    with pytest.raises(ValueError, match="result must be finite"):
        gw.plot.distances(np.full((2, 2), np.inf))
    with pytest.raises(TypeError, match="numbers must be True or False"):
        gw.plot.distances(np.zeros((2, 2)), numbers="yes")
    assert matplotlib.pyplot.get_fignums() == []
