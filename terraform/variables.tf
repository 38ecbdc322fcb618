variable "name" {
  description = "Name of the cluster; every other name is made from it (names.tf)."
  type        = string

  validation {
    condition     = can(regex("^[a-z](-?[a-z0-9])*$", var.name)) && length(var.name) <= 27
    error_message = "Lower-case letters, digits and single dashes between them, a letter first, at most 27 characters: longer names do not fit S3 and ElastiCache (names.tf)."
  }
}

variable "region" {
  description = "AWS region of everything."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region)) && length(var.region) <= 14
    error_message = "Not the name of a region; an example is us-west-2."
  }
}

variable "kubernetes_version" {
  description = "Minor version of Kubernetes."
  type        = string
  default     = "1.35"

  validation {
    condition     = can(regex("^1\\.[0-9]{2}$", var.kubernetes_version))
    error_message = "EKS takes a minor version such as 1.35, without a patch."
  }
}

variable "vpc_cidr" {
  description = "Address range of the VPC; a sixteenth of it goes to the nodes and pods of each zone."
  type        = string
  default     = "10.20.0.0/16"

  validation {
    condition     = can(cidrhost(var.vpc_cidr, 0)) && try(tonumber(split("/", var.vpc_cidr)[1]) >= 16 && tonumber(split("/", var.vpc_cidr)[1]) <= 20, false)
    error_message = "An IPv4 range from /16 to /20: AWS takes nothing larger, and pods need addresses of their own."
  }
  validation {
    condition     = try(cidrsubnet(var.vpc_cidr, 0, 0) == var.vpc_cidr, false)
    error_message = "The range's own address, without bits of a host in it."
  }
  validation {
    condition     = can(regex("^(10|172\\.(1[6-9]|2[0-9]|3[01])|192\\.168|100\\.(6[4-9]|[7-9][0-9]|1[01][0-9]|12[0-7]))\\.", var.vpc_cidr))
    error_message = "A private range: in 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 or 100.64.0.0/10."
  }
  validation {
    condition     = try(cidrsubnet("${split("/", var.vpc_cidr)[0]}/16", 0, 0) != local.service_cidr, true)
    error_message = "A range beside ${local.service_cidr}, which is the cluster's for its services: EKS takes no VPC that overlaps it."
  }
}

variable "az_count" {
  description = "In how many availability zones the subnets are; EKS and a Redis that fails over need two."
  type        = number
  default     = 2

  validation {
    condition     = contains([2, 3], var.az_count)
    error_message = "Two or three zones."
  }
}

variable "availability_zones" {
  description = "The zones by name; empty: chosen among those that offer the inf2 type. Name them for a long-lived stack, because AWS adds zones."
  type        = list(string)
  default     = []

  validation {
    condition     = contains([0, var.az_count], length(distinct(var.availability_zones)))
    error_message = "None, or exactly az_count different zones."
  }
}

variable "public_access_cidrs" {
  description = "Address ranges that may reach the Kubernetes API from the internet; empty closes the public endpoint. Every request also needs an IAM identity."
  type        = list(string)
  default     = ["0.0.0.0/0"]

  validation {
    condition     = alltrue([for cidr in var.public_access_cidrs : can(cidrhost(cidr, 0)) && !strcontains(cidr, ":")])
    error_message = "Every entry is an IPv4 range such as 203.0.113.0/24."
  }
}

variable "core_nodes" {
  description = "Nodes for the operator, DNS, the Ray head and the load. At least two: the load must not share the head's node."
  type = object({
    instance_type = optional(string, "m6i.xlarge")
    count         = optional(number, 2)
    disk_gib      = optional(number, 50)
  })
  default = {}

  validation {
    condition     = var.core_nodes.count >= 2 && var.core_nodes.count <= 20 && floor(var.core_nodes.count) == var.core_nodes.count
    error_message = "From 2 to 20 core nodes."
  }
  validation {
    condition     = !can(regex("^(a1|mac[a-z0-9-]*|[a-z-]+[0-9]+[a-z0-9-]*g[a-z0-9-]*)\\.", var.core_nodes.instance_type))
    error_message = "An x86-64 type, such as m6i.xlarge: node image and images have no other architecture. A g behind the generation is Graviton's."
  }
  validation {
    condition     = var.core_nodes.disk_gib >= 20
    error_message = "A node's disk has 20 GiB at least."
  }
}

variable "inf2_nodes" {
  description = <<-TEXT
    Nodes for the model, with one replica each. With at least two, the service survives the loss of one.
    Karpenter launches them when a worker waits for one: at most count of them serve, and twice as many exist while one Ray cluster
    takes over from another. It takes the cheapest of instance_type and fallback_types that has capacity in any zone. "managed"
    creates a node group of count nodes instead, of fallback_types in their order if instance_type has no capacity: for reserved
    capacity, which is paid for whether it is used or not.
  TEXT
  type = object({
    instance_type  = optional(string, "inf2.8xlarge")
    fallback_types = optional(list(string), ["inf2.24xlarge"])
    count          = optional(number, 2)
    disk_gib       = optional(number, 200)
    provisioner    = optional(string, "karpenter")
  })
  default = {}

  validation {
    condition     = alltrue([for type in concat([var.inf2_nodes.instance_type], var.inf2_nodes.fallback_types) : contains(["inf2.xlarge", "inf2.8xlarge", "inf2.24xlarge", "inf2.48xlarge"], type)])
    error_message = "inf2.xlarge, inf2.8xlarge, inf2.24xlarge or inf2.48xlarge: the node image and the taint are Neuron's."
  }
  validation {
    condition     = contains(["karpenter", "managed"], var.inf2_nodes.provisioner)
    error_message = "The nodes come from karpenter, or from a managed node group."
  }
  validation {
    condition     = var.inf2_nodes.count >= 1 && var.inf2_nodes.count <= 20 && floor(var.inf2_nodes.count) == var.inf2_nodes.count
    error_message = "From 1 to 20 inf2 nodes."
  }
  validation {
    condition     = var.inf2_nodes.disk_gib >= 50
    error_message = "An inf2 node's disk has 50 GiB at least: the Neuron image alone takes 20."
  }
}

variable "enable_gcs_ha" {
  description = "Whether Ray's global control store survives the loss of its head: creates the Redis for it."
  type        = bool
  default     = true
}

variable "redis" {
  description = "Shape of that Redis: node type, and replicas besides the primary."
  type = object({
    node_type = optional(string, "cache.t4g.small")
    replicas  = optional(number, 1)
  })
  default = {}

  validation {
    condition     = var.redis.replicas >= 1 && var.redis.replicas <= 5 && floor(var.redis.replicas) == var.redis.replicas
    error_message = "From 1 to 5 replicas: without one there is nothing to fail over to."
  }
}

variable "redis_auth_token" {
  description = "Redis's password. It comes from Secrets Manager; Terraform keeps it in its state, so the state's bucket is encrypted and private."
  type        = string
  sensitive   = true
  default     = null

  validation {
    condition     = !var.enable_gcs_ha || can(regex("^[a-zA-Z0-9!&#$^<>-]{16,128}$", var.redis_auth_token))
    error_message = "With enable_gcs_ha an AUTH token as ElastiCache takes it is needed: 16 to 128 letters, digits or !&#$^<>-."
  }
}

variable "admin_principal_arns" {
  description = "IAM users and roles that administer the cluster besides the caller."
  type        = set(string)
  default     = []
}

variable "model_buckets" {
  description = "S3 buckets from which workers may read models, besides the stack's own."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for bucket in var.model_buckets : can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", bucket))])
    error_message = "Names of S3 buckets, without s3:// and without a folder."
  }
}

variable "secrets_kms_key_arn" {
  description = "Your own KMS key for Kubernetes Secrets; null leaves EKS's envelope encryption with AWS's key, which is always on."
  type        = string
  default     = null
}

variable "log_retention_days" {
  description = "How long CloudWatch keeps the control plane's logs."
  type        = number
  default     = 14
}

variable "owner" {
  description = "Person or team to ask about this stack; a tag on every resource."
  type        = string
  default     = "unknown"

  validation {
    condition     = can(regex("^[\\w .:/=+@-]{1,256}$", var.owner))
    error_message = "1 to 256 letters, digits, spaces or _.:/=+@-, as AWS takes in tags."
  }
}

variable "tags" {
  description = "Further tags for every resource."
  type        = map(string)
  default     = {}

  validation {
    condition     = length(var.tags) <= 40 && alltrue([for key, value in var.tags : can(regex("^[A-Za-z0-9_ .:/=+@-]{1,128}$", key)) && can(regex("^[A-Za-z0-9_ .:/=+@-]{0,256}$", value))])
    error_message = "At most 40 tags: keys of 1 to 128 and values of at most 256 letters, digits, spaces or _.:/=+@-, as AWS takes in tags."
  }
  validation {
    condition     = length(distinct([for key in keys(var.tags) : lower(key)])) == length(var.tags)
    error_message = "IAM takes keys as equal that differ in upper and lower case only."
  }
  validation {
    condition     = alltrue([for key in keys(var.tags) : !can(regex("^(aws:|leeward:|kubernetes\\.io/cluster|(eks:eks-cluster-name|karpenter\\.sh/(nodepool|nodeclaim)|karpenter\\.k8s\\.aws/ec2nodeclass)$)", lower(key)))])
    error_message = "Keys that AWS, this pipeline or Karpenter sets: aws:*, leeward:*, kubernetes.io/cluster*, eks:eks-cluster-name, karpenter.sh/nodepool, karpenter.sh/nodeclaim and karpenter.k8s.aws/ec2nodeclass are not to be given."
  }
}
