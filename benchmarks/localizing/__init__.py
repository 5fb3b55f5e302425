"""How well a control map finds the true response region: scenes, observations, readings of Eq. 7, rows, scores."""
