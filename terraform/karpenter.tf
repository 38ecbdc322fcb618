# What Karpenter needs in AWS to launch nodes: a role of its own (permissions: karpenter_rights.tf), a role for its nodes, and a
# queue with interruption messages. The nodes that it launches are no resources here, and must be removed before destroy.
# None of this is created with inf2_nodes.provisioner = "managed".

locals {
  karpenter       = var.inf2_nodes.provisioner == "karpenter"
  karpenter_count = local.karpenter ? 1 : 0

  karpenter_queue_arn = "arn:${data.aws_partition.current.partition}:sqs:${var.region}:${data.aws_caller_identity.current.account_id}:${local.names.karpenter}"

  karpenter_events = {
    health    = { source = "aws.health", detail-type = "AWS Health Event" }
    rebalance = { source = "aws.ec2", detail-type = "EC2 Instance Rebalance Recommendation" }
    spot      = { source = "aws.ec2", detail-type = "EC2 Spot Instance Interruption Warning" }
    state     = { source = "aws.ec2", detail-type = "EC2 Instance State-change Notification" }
  }
}

resource "aws_iam_role" "karpenter" {
  count = local.karpenter_count

  name               = local.names.karpenter_role
  description        = "Karpenter of the EKS cluster ${var.name}"
  assume_role_policy = data.aws_iam_policy_document.trust["pods"].json
}

# Created after the permissions and deleted before them: a Karpenter that has a role but no permissions fails without a visible error.
resource "aws_eks_pod_identity_association" "karpenter" {
  count = local.karpenter_count

  cluster_name    = aws_eks_cluster.this.name
  namespace       = "kube-system"
  service_account = "karpenter"
  role_arn        = aws_iam_role.karpenter[0].arn

  depends_on = [aws_eks_addon.node, aws_iam_role_policy.karpenter]
}

# Not the node groups' role: EKS has created an access entry for that by itself, and would refuse another one.
resource "aws_iam_role" "karpenter_node" {
  count = local.karpenter_count

  name               = local.names.karpenter_node_role
  description        = "Nodes that Karpenter launches for the EKS cluster ${var.name}"
  assume_role_policy = data.aws_iam_policy_document.trust["ec2"].json
}

resource "aws_iam_role_policy_attachment" "karpenter_node" {
  for_each = { for policy in local.node_policies : policy => policy if local.karpenter }

  role       = aws_iam_role.karpenter_node[0].name
  policy_arn = "${local.managed_policy}/${each.key}"
}

# Created here, so that Karpenter needs no permission to create one, and none is left if Karpenter is removed first.
resource "aws_iam_instance_profile" "karpenter_node" {
  count = local.karpenter_count

  name = aws_iam_role.karpenter_node[0].name
  role = aws_iam_role.karpenter_node[0].name
}

resource "aws_eks_access_entry" "karpenter_node" {
  count = local.karpenter_count

  cluster_name  = aws_eks_cluster.this.name
  principal_arn = aws_iam_role.karpenter_node[0].arn
  type          = "EC2_LINUX"
}

# A message is useful for minutes: the warning about a spot instance comes two minutes before its end.
resource "aws_sqs_queue" "karpenter" {
  count = local.karpenter_count

  name                      = local.names.karpenter
  message_retention_seconds = 300
  sqs_managed_sse_enabled   = true

  # Inside the queue and not a resource of its own, because after each change of one the provider waits for half a minute.
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "OwnRules"
        Effect    = "Allow"
        Principal = { Service = "events.amazonaws.com" }
        Action    = "sqs:SendMessage"
        Resource  = local.karpenter_queue_arn
        Condition = { ArnEquals = { "aws:SourceArn" = [for rule in aws_cloudwatch_event_rule.karpenter : rule.arn] } }
      },
      {
        Sid       = "TlsOnly"
        Effect    = "Deny"
        Principal = "*"
        Action    = "sqs:*"
        Resource  = local.karpenter_queue_arn
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
    ]
  })
}

# EC2 reports events of all instances in the region; Karpenter ignores those of other clusters.
resource "aws_cloudwatch_event_rule" "karpenter" {
  for_each = { for event, pattern in local.karpenter_events : event => pattern if local.karpenter }

  name        = "${local.names.karpenter}-${each.key}"
  description = "${each.value.detail-type}, for Karpenter of ${var.name}"

  event_pattern = jsonencode({
    source      = [each.value.source]
    detail-type = [each.value.detail-type]
  })
}

resource "aws_cloudwatch_event_target" "karpenter" {
  for_each = aws_cloudwatch_event_rule.karpenter

  rule      = each.value.name
  target_id = "karpenter"
  arn       = aws_sqs_queue.karpenter[0].arn
}
