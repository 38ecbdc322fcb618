# Karpenter's permissions. It tags everything with the cluster's name. It may create nothing without those tags, and change nothing
# that does not have them, so that one cluster's Karpenter cannot terminate another's nodes.
#
# Narrower than upstream's: no instance profiles, no capacity reservations, no placement groups.

locals {
  ec2_arns = "arn:${data.aws_partition.current.partition}:ec2:${var.region}"

  launched_arns = [
    for kind in ["fleet", "instance", "launch-template", "network-interface", "spot-instances-request", "volume"] :
    "${local.ec2_arns}:*:${kind}/*"
  ]

  # Conditions: a request that sets the tags, and a resource that has them.
  tagging_as_own = {
    "aws:RequestTag/kubernetes.io/cluster/${var.name}" = "owned"
    "aws:RequestTag/eks:eks-cluster-name"              = var.name
  }
  own = {
    StringEquals = { "aws:ResourceTag/kubernetes.io/cluster/${var.name}" = "owned" }
    StringLike   = { "aws:ResourceTag/karpenter.sh/nodepool" = "*" }
  }
}

resource "aws_iam_role_policy" "karpenter" {
  for_each = { for name, statements in local.karpenter_rights : name => statements if local.karpenter }

  name = each.key
  role = aws_iam_role.karpenter[0].name
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [for name, statement in each.value : merge({ Sid = name, Effect = "Allow" }, statement)]
  })
}

locals {
  karpenter_rights = {
    instances = {
      LaunchFrom = {
        Action = ["ec2:CreateFleet", "ec2:RunInstances"]
        Resource = [
          "${local.ec2_arns}::image/*",
          "${local.ec2_arns}::snapshot/*",
          "${local.ec2_arns}:*:security-group/*",
          "${local.ec2_arns}:*:subnet/*",
        ]
      }
      LaunchByOwnTemplate = {
        Action    = ["ec2:CreateFleet", "ec2:RunInstances"]
        Resource  = "${local.ec2_arns}:*:launch-template/*"
        Condition = local.own
      }
      LaunchTagged = {
        Action    = ["ec2:CreateFleet", "ec2:CreateLaunchTemplate", "ec2:RunInstances"]
        Resource  = local.launched_arns
        Condition = { StringEquals = local.tagging_as_own, StringLike = { "aws:RequestTag/karpenter.sh/nodepool" = "*" } }
      }
      TagWhatIsLaunched = {
        Action   = "ec2:CreateTags"
        Resource = local.launched_arns
        Condition = {
          StringEquals = merge(local.tagging_as_own, { "ec2:CreateAction" = ["CreateFleet", "CreateLaunchTemplate", "RunInstances"] })
          StringLike   = { "aws:RequestTag/karpenter.sh/nodepool" = "*" }
        }
      }
      # When a node has joined, its instance gets name tags. No other tags may be changed, because the conditions here use them.
      NameWhatRuns = {
        Action   = "ec2:CreateTags"
        Resource = "${local.ec2_arns}:*:instance/*"
        Condition = merge(local.own, {
          StringEqualsIfExists        = { "aws:RequestTag/eks:eks-cluster-name" = var.name }
          "ForAllValues:StringEquals" = { "aws:TagKeys" = ["Name", "eks:eks-cluster-name", "karpenter.sh/nodeclaim"] }
        })
      }
      EndOwn = {
        Action    = ["ec2:DeleteLaunchTemplate", "ec2:TerminateInstances"]
        Resource  = ["${local.ec2_arns}:*:instance/*", "${local.ec2_arns}:*:launch-template/*"]
        Condition = local.own
      }
      PassNodeRole = {
        Action    = "iam:PassRole"
        Resource  = one(aws_iam_role.karpenter_node[*].arn)
        Condition = { StringEquals = { "iam:PassedToService" = "ec2.amazonaws.com" } }
      }
    }

    reads = {
      Region = {
        Action = [
          "ec2:DescribeCapacityReservations",
          "ec2:DescribeImages",
          "ec2:DescribeInstanceStatus",
          "ec2:DescribeInstanceTypeOfferings",
          "ec2:DescribeInstanceTypes",
          "ec2:DescribeInstances",
          "ec2:DescribeLaunchTemplates",
          "ec2:DescribePlacementGroups",
          "ec2:DescribeSecurityGroups",
          "ec2:DescribeSpotPriceHistory",
          "ec2:DescribeSubnets",
        ]
        Resource  = "*"
        Condition = { StringEquals = { "aws:RequestedRegion" = var.region } }
      }
      # IAM is global, and the pricing API exists in a few regions only.
      Elsewhere = {
        Action   = ["iam:ListInstanceProfiles", "pricing:GetProducts"]
        Resource = "*"
      }
      # Karpenter searches for profiles that an earlier version may have created.
      Profiles = {
        Action   = "iam:GetInstanceProfile"
        Resource = "arn:${data.aws_partition.current.partition}:iam::${data.aws_caller_identity.current.account_id}:instance-profile/*"
      }
      Images = {
        Action   = "ssm:GetParameter"
        Resource = "arn:${data.aws_partition.current.partition}:ssm:${var.region}::parameter/aws/service/*"
      }
      Cluster = {
        Action   = "eks:DescribeCluster"
        Resource = aws_eks_cluster.this.arn
      }
      Queue = {
        Action   = ["sqs:DeleteMessage", "sqs:GetQueueUrl", "sqs:ReceiveMessage"]
        Resource = local.karpenter_queue_arn
      }
    }
  }
}
