"""The method of the paper as functions of tensors, Eq. 3 to 12. It imports torch and notation only.

``response`` (what visual features answer to text), ``sfcm`` (where the target belongs), ``alignment`` (the original
everywhere else), ``enhancement`` (more of the target), ``objective`` (their weighted sum).
"""
