"""The fusion study: families of questions, arms, statistics and figures."""
