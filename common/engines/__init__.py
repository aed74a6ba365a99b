"""Where a vendor's scripts run: an environment of this machine, a container, a container of another machine."""
