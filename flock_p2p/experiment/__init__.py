"""The experiment: attacks and defences on real trainings in one process, without network and chain."""
