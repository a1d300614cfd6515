"""Statistics of cases: intervals, tests, effect sizes, agreement, and the summary of each method."""
