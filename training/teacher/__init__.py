"""A larger model, installed by the user, whose opinion the network learns beside the labels: optional."""
