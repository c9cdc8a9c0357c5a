// Package django proves the claim that the application needs no line of code for
// the bridge: project is a real Django project with NioChat's models and the
// requests that change them, in which nothing knows about the bridge, and the
// package's tests run it between two clusters while they kill the bridge at
// random.
//
// The tests need Python 3 with Django 3.2 or later and psycopg2
// (apt install python3-django python3-psycopg2), or another interpreter in
// TEST_PYTHON. They drive the built command, so they prove it from outside.
package django
