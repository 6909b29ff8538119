"""Formulas of the documentation: which signs become indices, and which stay."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

pytest.importorskip("sphinx", reason="the documentation needs the extra docs")

EXTENSION = Path(__file__).parents[1] / "docs" / "_extensions" / "formulas.py"


@pytest.fixture(scope="module")
def typeset():
    spec = spec_from_file_location("formulas", EXTENSION)
    formulas = module_from_spec(spec)
    spec.loader.exec_module(formulas)

    def marked(text):
        marks = {"subscript": "↓{}.", "superscript": "↑{}."}
        found = formulas.typeset(text)
        parts = [marks.get(node.tagname, "{}").format(node.astext()) for node in found]
        return "".join(parts) or text

    return marked


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("GW_2^2 = min_i cost_ij", "GW↓2.↑2. = min↓i. cost↓ij."),
        ("γ_kΛ and λ_rμ_r, E_lE_r", "γ↓k.Λ and λ↓r.μ↓r., E↓l.E↓r."),
        ("2Σ_{i ≤ r} a_i/(ā_e b_J)", "2Σ↓i ≤ r. a↓i./(ā↓e. b↓J.)"),
        ("objective^(1/p), (RS)^{d×d′}", "objective↑1/p., (RS)↑d×d′."),
        ("n^(−2/max(min(d, d′), 4)),", "n↑−2/max(min(d, d′), 4).,"),
        ("(GPΣ^½)(√a^⊥)^T, 2^e", "(GPΣ↑½.)(√a↑⊥.)↑T., 2↑e."),
        ("B*_ik, DMW_k, m_C·m_D", "B*↓ik., DMW↓k., m↓C.·m↓D."),
    ],
)
def test_indices_and_powers_are_set(typeset, text, shown):
    assert typeset(text) == shown


@pytest.mark.parametrize(
    "text",
    ["row_means", "n_jobs", "keep_proof", "MAX_ITERATIONS", "plan_x", "a_priori"],
)
def test_names_are_left_as_they_are(typeset, text):
    assert typeset(f"the name {text} of") == f"the name {text} of"
