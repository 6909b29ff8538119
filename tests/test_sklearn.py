"""The transformer of scikit-learn: distances, pipelines, and scikit-learn's checks."""

import pickle
import warnings

import numpy as np
import pytest

import gwtools as gw
from tests.libraries import EAGER
from tests.test_check import refused

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks

Transformer = gw.sklearn.GromovWassersteinTransformer


def clouds(number, seed=0, of=np.asarray):
    """Clouds on a circle and on a segment by turns, nearly evenly spaced."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(number):
        n = int(rng.integers(4, 8))
        t = (np.arange(n) + 0.2 * rng.random(n)) / n
        circle = np.stack([np.cos(2 * np.pi * t), np.sin(2 * np.pi * t)], axis=1)
        segment = np.stack([4 * t, np.zeros_like(t)], axis=1)
        made.append(gw.PointCloud(of(circle if i % 2 else segment)))
    return made


@pytest.mark.parametrize("solver", [None, gw.Sinkhorn(), gw.Sorted()])
def test_rows_are_the_distances_of_solve(solver):
    references, spaces = clouds(3), clouds(4, seed=1)
    transformer = Transformer(references, solver=solver)
    assert transformer.fit(spaces) is transformer
    rows = transformer.transform(spaces)
    assert rows.shape == (4, 3)
    assert rows.dtype == np.float64
    solver = solver or gw.ConditionalGradient()
    for i, x in enumerate(spaces):
        for r, y in enumerate(references):
            distance = float(gw.solve(x, y, solver).distance)
            assert rows[i, r] == pytest.approx(distance, rel=1e-6, abs=1e-9)


def test_without_references_they_are_the_spaces_of_fit():
    spaces = clouds(4)
    rows = Transformer().fit_transform(spaces)
    assert rows.shape == (4, 4)
    assert np.diag(rows) == pytest.approx(0.0, abs=1e-7)


@pytest.mark.parametrize("library", EAGER, ids=str)
def test_arrays_of_every_library_become_rows_of_numpy(library):
    spaces = clouds(3, of=library.array)
    rows = Transformer(spaces[:2]).fit(spaces).transform(spaces)
    assert type(rows) is np.ndarray
    expected = Transformer(clouds(2)).fit_transform(clouds(3))
    assert rows == pytest.approx(expected, rel=100 * library.rtol, abs=1e-3)


def test_tensors_within_a_gradient_graph_become_numbers():
    torch = pytest.importorskip("torch")
    spaces = clouds(2, of=lambda points: torch.asarray(points).requires_grad_())
    assert Transformer().fit_transform(spaces).shape == (2, 2)


def test_it_is_cloned_pickled_and_set_like_any_estimator():
    references = clouds(2)
    transformer = Transformer(references, solver=gw.Sorted())
    assert transformer.get_params() == {
        "references": references,
        "solver": transformer.solver,
    }
    copy = clone(transformer)
    assert str(copy.solver) == "Sorted()"
    with pytest.raises(NotFittedError):
        copy.transform(references)
    rows = transformer.fit_transform(references)
    assert np.array_equal(copy.fit_transform(references), rows)
    again = pickle.loads(pickle.dumps(transformer))
    assert np.array_equal(again.transform(references), rows)
    assert transformer.set_params(references=None, solver=None) is transformer
    assert list(copy.get_feature_names_out()) == [
        "gromovwassersteintransformer0",
        "gromovwassersteintransformer1",
    ]


def test_a_pipeline_tells_circles_from_segments():
    spaces = clouds(24)
    labels = np.arange(24) % 2
    model = make_pipeline(
        Transformer(spaces[:4]), StandardScaler(), KNeighborsClassifier(3)
    )
    assert cross_val_score(model, spaces, labels, cv=3).min() >= 0.75
    settings = {
        "gromovwassersteintransformer__solver": [gw.Sorted(), gw.ConditionalGradient()]
    }
    search = GridSearchCV(model, settings, cv=2).fit(spaces, labels)
    assert search.score(spaces, labels) >= 0.9


def test_what_has_no_distances_is_refused():
    space = clouds(1)[0]
    narrow = gw.PointCloud(np.eye(2, dtype=np.float32))
    fitted = Transformer().fit([space])
    refused(lambda: Transformer().fit([]), ValueError, "spaces", "empty")
    refused(lambda: Transformer([]).fit([space]), ValueError, "references", "empty")
    refused(lambda: Transformer(space).fit([space]), TypeError, "references", "list")
    refused(lambda: Transformer().fit(np.eye(3)), TypeError, "spaces", "[spaces]")
    refused(
        lambda: Transformer(solver="fast").fit([space]), TypeError, "solver", "'fast'"
    )
    refused(
        lambda: Transformer([space]).fit([narrow]), TypeError, "spaces[0]", "float32"
    )
    refused(lambda: fitted.transform([narrow]), TypeError, "spaces[0]", "float32")
    with pytest.raises(NotFittedError):
        Transformer().transform([space])
    assert fitted.transform([]).shape == (0, 1)


# The checks of scikit-learn pass tables of numbers. These ask nothing of their rows.
OF_ANY_INPUT = (
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_tags_renamed",
    "check_get_params_invariance",
    "check_mixin_order",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_set_params",
    "check_valid_tag_types",
)
# These are run on tables whose rows are read as spaces. Left out are those about what a
# table alone can be: of other dtypes, sparse, with missing values or of another number
# of columns, as columns are no features of a space.
OF_ROWS = (
    "check_dict_unchanged",
    "check_dont_overwrite_parameters",
    "check_estimators_fit_returns_self",
    "check_estimators_overwrite_params",
    "check_estimators_pickle",
    "check_estimators_unfitted",
    "check_fit_idempotent",
    "check_fit_score_takes_y",
    "check_methods_sample_order_invariance",
    "check_methods_subset_invariance",
    "check_pipeline_consistency",
    "check_readonly_memmap_input",
)


class OfRows(Transformer):
    """Each row of a table is a cloud of points on a line."""

    def fit(self, X, y=None):
        super().fit(self.clouds(X))
        # Few references are enough for what is checked.
        self.references_ = self.references_[:2]
        self.n_references_ = len(self.references_)
        return self

    def transform(self, X):
        return super().transform(self.clouds(X))

    @staticmethod
    def clouds(X):
        return [gw.PointCloud(np.array(row, dtype=float)[:, None]) for row in X]


@pytest.mark.parametrize("name", [*OF_ANY_INPUT, *OF_ROWS])
def test_checks_of_scikit_learn_pass(name):
    check = getattr(estimator_checks, name)
    kind = OfRows if name in OF_ROWS else Transformer
    with warnings.catch_warnings(action="error"):
        check(kind.__name__, kind())
