"""Lists of certificates and plans that do not pair are refused in a sentence."""

import numpy as np

import gwtools as gw
from tests.certify.test_landmarks import certificate
from tests.test_check import refused


def test_what_is_no_pair_of_lists_of_certificates_is_refused():
    one = certificate(1.0, 2.0)
    refused(
        lambda: gw.landmark_interval(one, [one]),
        TypeError,
        "certificates_x must be a list",
        "pass [certificates_x]",
    )
    refused(
        lambda: gw.landmark_interval([one], "names"),
        TypeError,
        "certificates_y must be a list",
        "one certificate for each landmark",
    )
    result = gw.solve(np.eye(2), np.eye(2))
    refused(
        lambda: gw.landmark_interval([one], [result]),
        TypeError,
        "certificates_y[0] must be a gwtools.Certificate",
        "result.certificate",
    )
    refused(lambda: gw.landmark_interval([], []), ValueError, "certificates_x", "empty")
    refused(
        lambda: gw.landmark_interval([one, one], [one]),
        ValueError,
        "2 and 1",
        "one order",
    )


def test_plans_that_do_not_fit_are_refused():
    P, Q = np.full((2, 2), 0.25), np.full((3, 3), 1 / 9)
    refused(
        lambda: gw.glued_plan(P, Q), ValueError, "one column", "2 and 3", "landmark"
    )
    refused(
        lambda: gw.glued_plan(P, np.array([[0.2, 0.8]])),
        ValueError,
        "same column sums",
        "0.6",
        "gwtools.round_plan",
    )
    refused(lambda: gw.glued_plan([[1.0]], P), TypeError, "plan_x")
    refused(lambda: gw.glued_plan(P, -P), ValueError, "plan_y", "non-negative")
    refused(lambda: gw.glued_plan(P, np.nan * P), ValueError, "plan_y")
    refused(
        lambda: gw.glued_plan(P, P.astype(np.float32)), TypeError, "plan_x", "dtype"
    )
