"""The report: the paper's tables from what was measured. It reads result files and pictures, and measures nothing."""
