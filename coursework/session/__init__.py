"""What runs in students' sessions and in nbgrader's own environment: standard library only, and
nothing of the application. It is shipped under the name ``practicum_session``, so its modules
import each other relatively and nothing else of practicum.
"""
