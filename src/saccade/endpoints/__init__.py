"""An engine under a name, that can be started, stopped and replaced."""
