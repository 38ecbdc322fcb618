"""The cloud as the host sees it: start, stop, status, the process that is the cloud, and what it may leave behind."""
