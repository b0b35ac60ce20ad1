"""Recipes: experiments as data. One folder each, with plan and training settings, a smoke variant and a README."""
