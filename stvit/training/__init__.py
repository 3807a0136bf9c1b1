"""The parts of ``stvit.train``: configuration, recipes, what is built from them, checkpoints, the journal."""
