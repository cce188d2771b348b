"""Generation: from a day and the learned concepts to render jobs, and from jobs to pictures.

``planner`` is pure and needs no model; everything else in this room does.
"""
