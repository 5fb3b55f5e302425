"""The two stages of the paper as LightningModules, and what watches them while they train."""
