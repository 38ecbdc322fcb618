// Pins where Karpenter's chart and CRDs come from; go.sum verifies the download. No Go code here.
module leeward/manifests/karpenter

go 1.26

require github.com/aws/karpenter-provider-aws v1.14.3
