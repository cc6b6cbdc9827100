/* What MPI does on this cluster: who is there, one small message to and fro, large ones, and a sum
 * over all. Between the first process and the first one on another node, if there is one. */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SMALL = 1, LARGE = 1 << 20, ROUNDS = 1000, LARGE_ROUNDS = 20 };

static double there_and_back(int rank, int other, char *buffer, int bytes, int rounds) {
    MPI_Status status;
    double began = 0;
    for (int i = -rounds / 10; i < rounds; i++) { /* the first ones only open connections */
        if (i == 0)
            began = MPI_Wtime();
        if (rank == 0) {
            MPI_Send(buffer, bytes, MPI_CHAR, other, 0, MPI_COMM_WORLD);
            MPI_Recv(buffer, bytes, MPI_CHAR, other, 0, MPI_COMM_WORLD, &status);
        } else {
            MPI_Recv(buffer, bytes, MPI_CHAR, 0, 0, MPI_COMM_WORLD, &status);
            MPI_Send(buffer, bytes, MPI_CHAR, 0, 0, MPI_COMM_WORLD);
        }
    }
    return (MPI_Wtime() - began) / rounds / 2;
}

int main(int argc, char **argv) {
    int rank, size, length, other = 0;
    char host[MPI_MAX_PROCESSOR_NAME] = "";
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    MPI_Get_processor_name(host, &length);
    char *hosts = malloc((size_t)size * MPI_MAX_PROCESSOR_NAME);
    char *buffer = calloc(LARGE, 1);
    if (!hosts || !buffer)
        MPI_Abort(MPI_COMM_WORLD, 1);
    MPI_Allgather(host, MPI_MAX_PROCESSOR_NAME, MPI_CHAR, hosts, MPI_MAX_PROCESSOR_NAME, MPI_CHAR,
                  MPI_COMM_WORLD);
    for (int i = size - 1; i > 0; i--)
        if (!other || strcmp(hosts + i * MPI_MAX_PROCESSOR_NAME, hosts))
            other = i;
    if (rank == 0)
        for (int i = 0; i < size; i++)
            printf("rank %d %s\n", i, hosts + i * MPI_MAX_PROCESSOR_NAME);
    if (other && (rank == 0 || rank == other)) {
        double small = there_and_back(rank, other, buffer, SMALL, ROUNDS);
        double large = there_and_back(rank, other, buffer, LARGE, LARGE_ROUNDS);
        if (rank == 0)
            printf("latency_us %.2f\nbandwidth_mb_s %.1f\n", small * 1e6, LARGE / large / 1e6);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    double mine = rank + 1, sum = 0, began = MPI_Wtime();
    for (int i = 0; i < ROUNDS / 10; i++)
        MPI_Allreduce(&mine, &sum, 1, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
    if (rank == 0) {
        printf("allreduce_us %.2f\n", (MPI_Wtime() - began) / (ROUNDS / 10) * 1e6);
        printf("sum %s\n", sum == size * (size + 1) / 2.0 ? "right" : "wrong");
    }
    free(hosts);
    free(buffer);
    MPI_Finalize();
    return 0;
}
