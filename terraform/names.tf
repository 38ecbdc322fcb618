# All names in one place, with the length that AWS allows. var.name has at most 27 characters, a region 14.
#
#   resource                      name                                 longest   AWS allows
#   state and evidence bucket *   leeward-NAME-ACCOUNT-REGION                 63   63
#   Redis replication group       leeward-NAME-gcs                            39   40
#   IAM role, instance profile    leeward-NAME-REGION-karpenter, -auto-node   60   64
#   EKS cluster                   NAME                                        27   100
#   load balancer (later)         NAME and five characters                    32   32
#   subnet and parameter group    leeward-NAME-gcs                            39   255
#   event rule                    leeward-NAME-karpenter-rebalance            55   64
#   queue                         leeward-NAME-karpenter                      45   80
#   launch template               leeward-NAME-core, -inf2                    40   128
#   security group                leeward-NAME-redis                          41   255
#   ECR repository                leeward-NAME/serving                        43   256
#   log group                     /aws/eks/NAME/cluster                       44   512
#   AUTH token's secret *         leeward/NAME/redis-auth                     46   512
#
# * created outside Terraform, by tasks/aws/account.py. The prefix avoids names that services reserve ("sg-" for
# security groups, "sthree-" for buckets) and allows "leeward-*" in an IAM policy. Roles are global, so their names
# contain the region.
locals {
  prefix      = "leeward-${var.name}"
  role_prefix = "${local.prefix}-${var.region}"

  names = {
    redis_group         = "${local.prefix}-gcs"
    redis_firewall      = "${local.prefix}-redis"
    cluster_role        = "${local.role_prefix}-cluster"
    node_role           = "${local.role_prefix}-node"
    cni_role            = "${local.role_prefix}-cni"
    karpenter_role      = "${local.role_prefix}-karpenter"
    karpenter_node_role = "${local.role_prefix}-auto-node"
    models_role         = "${local.role_prefix}-models"
    bucket              = "${local.prefix}-${data.aws_caller_identity.current.account_id}-${var.region}"
    karpenter           = "${local.prefix}-karpenter"
    repository          = "${local.prefix}/serving"
    log_group           = "/aws/eks/${var.name}/cluster"
  }

  # Tags of every resource; leeward:name alone finds the leftovers of a stack.
  tags = merge(var.tags, {
    "leeward:name"  = var.name
    "leeward:owner" = var.owner
  })
}
