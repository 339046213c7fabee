/* tasks.h: the tasks of a worker, their coroutines, and the ids by which Lua knows them. Worker
 * only.
 */
#ifndef SHOVE_WORKER_TASKS_H
#define SHOVE_WORKER_TASKS_H

#include "worker/host.h"

/* A free task, with a coroutine and a fresh serial, now ON_CPU by its state; NULL when there is no
 * memory. Borrowed. */
struct shove_task *shove_task_take(struct shove_host *host);

/* Gives the task back. When somebody else may hold the coroutine, or it is in the middle of a
 * handler, the coroutine is dropped: it cannot be resumed any more (coroutine_binding.c). */
void shove_task_give(struct shove_task *task, bool is_coroutine_spent);

/* The id of what the task does now: exact in a Lua number. */
double shove_task_id(const struct shove_task *task);

/* The task of an id, NULL when that message is settled. */
struct shove_task *shove_task_find(struct shove_host *host, double id);

/* The task whose own coroutine L is, when it is on the CPU; NULL anywhere else (a luv callback, a
 * coroutine that the handler made, the script while it is loaded). */
struct shove_task *shove_task_of_thread(struct shove_host *host, lua_State *L);

#endif
