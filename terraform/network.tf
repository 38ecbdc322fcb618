# One VPC: nodes and Redis in private subnets, the control plane's interfaces in small ones of their own, only the NAT gateway in the public ones.

data "aws_availability_zones" "open" {
  #checkov:skip=CKV_AWS_394:availability_zones pins them for a long-lived stack
  state = "available"

  # EKS makes no control plane in these.
  exclude_zone_ids = ["use1-az3", "usw1-az2", "cac1-az3"]

  filter {
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }
}

data "aws_ec2_instance_type_offerings" "core" {
  location_type = "availability-zone"

  filter {
    name   = "instance-type"
    values = [var.core_nodes.instance_type]
  }
}

data "aws_ec2_instance_type_offerings" "inf2" {
  for_each = toset(local.inf2_types)

  location_type = "availability-zone"

  filter {
    name   = "instance-type"
    values = [each.key]
  }
}

locals {
  # With the type of the core nodes, which are in every zone.
  zones_open = sort(setintersection(data.aws_availability_zones.open.names, data.aws_ec2_instance_type_offerings.core.locations))

  # Karpenter takes a fallback type only if the first type has no capacity. A managed group spreads over all its zones and would
  # take a fallback type in every zone without the first type, so it gets none of those zones.
  inf2_types = distinct(concat([var.inf2_nodes.instance_type], var.inf2_nodes.fallback_types))
  zones_inf2 = distinct(flatten([
    for type in slice(local.inf2_types, 0, local.karpenter ? length(local.inf2_types) : 1) :
    sort(setintersection(local.zones_open, data.aws_ec2_instance_type_offerings.inf2[type].locations))
  ]))

  # Zones with inf2 first: with two of them, a replica survives the loss of a zone.
  zones_preferred = distinct(concat(local.zones_inf2, local.zones_open))
  zones           = length(var.availability_zones) > 0 ? var.availability_zones : slice(local.zones_preferred, 0, min(var.az_count, length(local.zones_preferred)))
}

resource "aws_vpc" "this" {
  #checkov:skip=CKV2_AWS_11:Flow logs cost more than they are worth for a drill; the load generator records every request
  cidr_block           = var.vpc_cidr
  enable_dns_support   = true
  enable_dns_hostnames = true
  tags                 = { Name = local.prefix }

  lifecycle {
    precondition {
      condition     = length(local.zones) == var.az_count
      error_message = "${var.region} has fewer open zones with ${var.core_nodes.instance_type} than az_count = ${var.az_count}: it has ${join(", ", local.zones_open)}."
    }
    precondition {
      condition     = length(setsubtract(local.zones, local.zones_open)) == 0
      error_message = "Not all of availability_zones (${join(", ", local.zones)}) are open zones of ${var.region} with ${var.core_nodes.instance_type}: those are ${join(", ", local.zones_open)}."
    }
    precondition {
      condition     = length(local.zones_of_nodes.inf2) > 0
      error_message = "None of the zones ${join(", ", local.zones)} offers ${join(" or ", local.inf2_types)}; ${var.region} has them in: ${join(", ", local.zones_inf2)}."
    }
  }
}

# Every VPC has a default group that lets its members talk to each other. It is not used; managed here, it allows nothing.
resource "aws_default_security_group" "closed" {
  vpc_id = aws_vpc.this.id
  tags   = { Name = "${local.prefix}-default-closed" }
}

resource "aws_internet_gateway" "this" {
  vpc_id = aws_vpc.this.id
  tags   = { Name = local.prefix }
}

# Addresses: the first sixteenth of the VPC for the public and the control plane's subnets, one sixteenth for each private one.
resource "aws_subnet" "public" {
  for_each = { for index, zone in local.zones : zone => index }

  vpc_id            = aws_vpc.this.id
  availability_zone = each.key
  cidr_block        = cidrsubnet(var.vpc_cidr, 8, each.value)
  # The NAT gateway has an address of its own; nothing else is launched here.
  map_public_ip_on_launch = false

  tags = {
    Name                     = "${local.prefix}-public-${each.key}"
    "kubernetes.io/role/elb" = "1"
  }
}

resource "aws_subnet" "private" {
  for_each = { for index, zone in local.zones : zone => index }

  vpc_id            = aws_vpc.this.id
  availability_zone = each.key
  cidr_block        = cidrsubnet(var.vpc_cidr, 4, each.value + 1)

  tags = {
    Name                              = "${local.prefix}-private-${each.key}"
    "kubernetes.io/role/internal-elb" = "1"
  }
}

# Nothing but the control plane's network interfaces: so network policies can tell the Kubernetes API from a pod (manifests/network.yaml).
resource "aws_subnet" "control_plane" {
  for_each = { for index, zone in local.zones : zone => index }

  vpc_id            = aws_vpc.this.id
  availability_zone = each.key
  cidr_block        = cidrsubnet(var.vpc_cidr, 8, each.value + 8)
  tags              = { Name = "${local.prefix}-control-plane-${each.key}" }
}

resource "aws_eip" "nat" {
  domain = "vpc"
  tags   = { Name = "${local.prefix}-nat" }

  depends_on = [aws_internet_gateway.this]
}

# One for all zones: only image pulls and AWS's APIs go through it, never a user's request.
resource "aws_nat_gateway" "this" {
  allocation_id = aws_eip.nat.id
  subnet_id     = aws_subnet.public[local.zones[0]].id
  tags          = { Name = local.prefix }

  depends_on = [aws_internet_gateway.this]
}

resource "aws_route_table" "public" {
  vpc_id = aws_vpc.this.id
  tags   = { Name = "${local.prefix}-public" }
}

resource "aws_route" "to_internet" {
  route_table_id         = aws_route_table.public.id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.this.id
}

resource "aws_route_table_association" "public" {
  for_each = aws_subnet.public

  subnet_id      = each.value.id
  route_table_id = aws_route_table.public.id
}

resource "aws_route_table" "private" {
  vpc_id = aws_vpc.this.id
  tags   = { Name = "${local.prefix}-private" }
}

resource "aws_route" "to_nat" {
  route_table_id         = aws_route_table.private.id
  destination_cidr_block = "0.0.0.0/0"
  nat_gateway_id         = aws_nat_gateway.this.id
}

resource "aws_route_table_association" "private" {
  for_each = aws_subnet.private

  subnet_id      = each.value.id
  route_table_id = aws_route_table.private.id
}

# Image layers come from S3: free and off the NAT gateway through here.
resource "aws_vpc_endpoint" "s3" {
  vpc_id            = aws_vpc.this.id
  service_name      = "com.amazonaws.${var.region}.s3"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = [aws_route_table.private.id]
  tags              = { Name = "${local.prefix}-s3" }
}
