"""Nodes: an EC2 instance as a box with containerd, kubelet and kube-proxy."""
