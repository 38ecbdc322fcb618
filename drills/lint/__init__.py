"""Whether a RayService would survive the loss of a part: rules that look at its objects and touch nothing."""
