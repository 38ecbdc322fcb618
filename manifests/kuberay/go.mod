// Pins where KubeRay's CRDs and its operator's ClusterRole come from; go.sum verifies the download. No Go code here.
module leeward/manifests/kuberay

go 1.26

require github.com/ray-project/kuberay/ray-operator v1.6.0
