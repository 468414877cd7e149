"""Running trials: ask a session, measure, tell it. Executors know neither controllers nor store."""

from autoprune.executors.serial import SerialExecutor

__all__ = ["SerialExecutor"]
