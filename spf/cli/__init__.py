"""The two verbs that Lightning's command line reads: ``fit`` and ``test``."""
