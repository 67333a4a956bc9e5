"""Sanity tests of explanation methods: what becomes of the maps when weights or labels lose their meaning.

J. Adebayo et al., "Sanity checks for saliency maps" (NeurIPS 2018); A. Hedström et al., "Sanity checks revisited"
(2023) for the smoothed and the efficient variant.
"""
