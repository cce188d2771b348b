"""One night's pictures: plan, render, judge, and publish the manifest."""
