"""The miniature: a painted portrait world with known truth, and small models of it in the layout of diffusers."""
