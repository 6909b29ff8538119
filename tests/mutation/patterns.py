"""The names that the rules of mutants know, and what they put in their place."""

from __future__ import annotations

import ast
import re

# Patterns match whole names, without leading underscores.
GAMMA = re.compile(r"gamma")

# Rule 2: variables, keyword arguments and fields that are radii or errors,
RADIUS = re.compile(
    r"radius|off|skew|errors?|\w+_error|missed|below|above|excess|tilted|shift\w*"
    r"|moved|scale|tolerance|slack|curvature|stored"
    r"|loss|reach|sums|top|spectrum|entries|row_means|mean|deviations|residual"
    r"|largest|length|widest"
)
# classes and dictionaries all of whose fields are,
RADIUS_CLASSES = re.compile(r"Radii")
RADIUS_DICTIONARIES = re.compile(r"fields")
# functions that return them,
RADIUS_FUNCTIONS = re.compile(
    r"gamma|rounded_down|rounded_up|norm|root_radius|\w*error|missed"
    r"|(largest_)?eigenvalue_product(_of_kinds)?|interval_width|rounding|radius"
    r"|tolerance|slack|loss"
)
# and functions that take them, by position.
RADIUS_ARGUMENTS = {
    "lower_end": (1,),
    "enlarged": (1,),
    "lower_by_root": (1,),
    "_spectral_bound": (3,),
    "_lowered": (1,),
    "linear_program": (3,),
    "dual_value": (5,),
    "root_radius": (0,),
    "widened": (0,),
    "length": (1,),
}

# Rule 3.
OPPOSITES = {
    "max": "min",
    "maximum": "minimum",
    "argmax": "argmin",
    "amax": "amin",
    "nanmax": "nanmin",
    "fmax": "fmin",
}
OPPOSITES |= {low: high for high, low in OPPOSITES.items()}

# Rule 4: calls whose arguments are shapes.
SHAPES = re.compile(r"reshape|zeros|ones|empty|full|eye|arange|broadcast_to")

# Rule 5: indices of γ.
INDEX = re.compile(r"\w*terms|omega|\w*operations|lists|size|weights|count|height")
INDEX_FUNCTIONS = re.compile(r"\w*terms")

# Rule 6.
COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
}
NEGATIONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
LOGIC: dict[type[ast.AST], type[ast.AST]] = {
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}

# Rule 7: functions that are told a direction, by position,
DIRECTED = {"nextafter": 1}
# constants that stand for 1 + θ and for 1 − θ,
ENLARGED = {1.01: 0.99, 0.51: 0.49, 0.99: 1.01}
# and helpers that round to opposite sides.
HELPERS = {"rounded_down": "rounded_up", "rounded_up": "rounded_down"}

RULES = {
    1: "γ is 0",
    2: "a radius is a tenth",
    3: "max and min, and the signs of infinity",
    4: "a term is dropped",
    5: "an index of γ is one less or more",
    6: "comparisons, conditions, and and or",
    7: "a direction of rounding",
}
