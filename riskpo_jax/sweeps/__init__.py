"""What many runs say together: intervals over seeds, differences paired by seed, a report and pictures."""
